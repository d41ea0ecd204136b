"""Ranges of a file's bytes, all of the version that the file had when it was opened.

`objects.read_bytes` gets a whole object; this is for files that are too large for it. A file that is
replaced while it is read is an error, never a mixture of two versions: S3 is asked by If-Match, and the
version is looked at again after each read elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import fsspec

from cluster.storage.objects import local_etag, open_regular
from cluster.storage.s3 import guarded, storage_error
from cluster.storage.urls import StorageError, is_remote, local_path, redact_url

BLOCK_BYTES = 1 << 16
"""Shorter reads, as those of headers, fetch whole blocks of this size, which are kept for the next."""
NUM_BLOCKS = 64
"""Blocks that one open file keeps."""
NUM_REQUESTS = 8
"""Requests for ranges of one file that are under way at once."""
Range = tuple[int, int]
"""First byte, and the byte behind the last one."""


class _Reader(Protocol):
    """One version of one file."""

    size: int
    etag: str

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]: ...

    def close(self) -> None: ...


class RangeFile(io.RawIOBase):
    """A file to read and seek in, of which only the ranges that are read are fetched; for one thread.

    Raises:
        FileNotFoundError: there is no such file; a prefix or a folder of an object store is none.
        StorageError: it can't be read, or has changed since it was opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme = url.split("://", 1)[0]
        reader: _Reader
        if not is_remote(url):
            reader = _LocalReader(url)
        else:
            reader = _S3Reader(url) if scheme in ("s3", "s3a") else _OtherReader(url)
        self._reader = reader
        self.size = reader.size
        """Size of the file in bytes."""
        self.etag = reader.etag
        """What the store calls the version that is read, as `objects.FileInfo` has it."""
        self.num_fetched = 0
        """Bytes fetched so far."""
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return several ranges, fetched side by side; the name is the one by which rasterio calls it."""
        return self._fetch([(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True)])

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes from the position on, up to the end where it is negative."""
        start = self._position
        end = self.size if size is None or size < 0 else min(start + size, self.size)
        if end <= start:
            return b""
        if end - start >= BLOCK_BYTES:
            (data,) = self._fetch([(start, end)])
        else:
            data = self._from_blocks(start, end)
        self._position = end
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on, and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Let go of the file and of the blocks that are kept."""
        if not self.closed:
            self._reader.close()
            self._blocks.clear()
        super().close()

    def _from_blocks(self, start: int, end: int) -> bytes:
        numbers = range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1)
        missing = [number for number in numbers if number not in self._blocks]
        if missing:
            first = missing[0] * BLOCK_BYTES
            (data,) = self._fetch([(first, min((missing[-1] + 1) * BLOCK_BYTES, self.size))])
            for number in range(missing[0], missing[-1] + 1):
                offset = number * BLOCK_BYTES - first
                self._blocks[number] = data[offset : offset + BLOCK_BYTES]
        parts = []
        for number in numbers:
            self._blocks.move_to_end(number)
            parts.append(self._blocks[number])
        while len(self._blocks) > NUM_BLOCKS:
            self._blocks.popitem(last=False)
        base = numbers.start * BLOCK_BYTES
        return b"".join(parts)[start - base : end - base]

    def _fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        ranges = [(min(start, self.size), min(end, self.size)) for start, end in ranges]
        found = self._reader.fetch(ranges)
        for (start, end), data in zip(ranges, found, strict=True):
            if len(data) != end - start:
                raise StorageError(
                    f"{redact_url(self.url)!r} gave {len(data)} bytes of the {end - start} from byte "
                    f"{start} on, expected all: run the same command again when the store is well"
                )
            self.num_fetched += len(data)
        return found


def replaced(url: str) -> StorageError:
    """Return the error of a file whose version is not the one that was opened."""
    return StorageError(
        f"{redact_url(url)!r} was replaced while it was read, expected one version of the file: run the "
        "same command again when nothing writes there"
    )


class _LocalReader:
    """A local file, looked at again after each read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = open_regular(url)
        self._path = os.path.abspath(local_path(url))
        status = os.fstat(self._file.fileno())
        self.size, self.etag = status.st_size, local_etag(status)

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        try:
            found = []
            for start, end in ranges:
                self._file.seek(start)
                found.append(self._file.read(end - start))
            now = local_etag(os.stat(self._path))
        except FileNotFoundError as error:
            raise replaced(self._url) from error
        except OSError as error:
            raise storage_error(self._url, error) from error
        if now != self.etag:
            raise replaced(self._url)
        return found

    def close(self) -> None:
        self._file.close()


def _info(url: str) -> dict[str, Any]:
    info: dict[str, Any] = guarded(url, lambda store: store.info(url))
    if info.get("type") == "directory":
        raise FileNotFoundError(f"{redact_url(url)!r} is a folder")
    if info.get("size") is None:
        raise StorageError(
            f"{redact_url(url)!r} is of a server that tells no size, expected one that serves ranges: "
            "copy the file to a folder or to an object store"
        )
    return info


def _etag(info: dict[str, Any]) -> str:
    return str(info.get("ETag", info.get("etag", ""))).strip('"')


class _S3Reader:
    """An object of S3, asked for by its ETag."""

    def __init__(self, url: str) -> None:
        info = _info(url)
        self._url = url
        self._tag = str(info.get("ETag", ""))
        self.size, self.etag = int(info["size"]), _etag(info)

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        def call(store: Any) -> list[bytes]:
            found: list[bytes] = fsspec.asyn.sync(store.loop, self._fetch_all, store, ranges)
            return found

        try:
            return guarded(self._url, call)
        except FileNotFoundError as error:
            raise replaced(self._url) from error

    def close(self) -> None:
        pass

    async def _fetch_all(self, store: Any, ranges: Sequence[Range]) -> list[bytes]:
        from s3fs.core import _error_wrapper

        limit = asyncio.Semaphore(NUM_REQUESTS)
        bucket, key, _ = store.split_path(self._url)

        async def fetch(start: int, end: int) -> bytes:
            if start == end:
                return b""

            async def try_once() -> bytes:
                answer = await store._call_s3(
                    "get_object",
                    Bucket=bucket,
                    Key=key,
                    Range=f"bytes={start}-{end - 1}",
                    IfMatch=self._tag,
                )
                try:
                    data: bytes = await answer["Body"].read()
                finally:
                    answer["Body"].close()
                if answer.get("ETag") != self._tag:  # of a store that knows no If-Match
                    raise replaced(self._url)
                return data

            async with limit:
                try:
                    data: bytes = await _error_wrapper(try_once, retries=store.retries)
                    return data
                except Exception as error:
                    if _is_precondition(error):
                        raise replaced(self._url) from error
                    raise

        return list(await asyncio.gather(*(fetch(start, end) for start, end in ranges)))


def _is_precondition(error: BaseException | None) -> bool:
    """Return whether an error, or what it came from, is S3's answer that the ETag is another now."""
    while error is not None:
        answer = getattr(error, "response", {})
        if answer.get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
            return True
        error = error.__cause__
    return False


class _OtherReader:
    """A file of any other store of fsspec, looked at again after each read."""

    def __init__(self, url: str) -> None:
        info = _info(url)
        self._url = url
        self.size, self.etag = int(info["size"]), _etag(info)
        self._version = _version(info)

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        try:
            found: list[bytes] = guarded(
                self._url,
                lambda store: [store.cat_file(self._url, start, end) for start, end in ranges],
            )
            if _version(_info(self._url)) != self._version:
                raise replaced(self._url)
        except FileNotFoundError as error:
            raise replaced(self._url) from error
        return found

    def close(self) -> None:
        pass


def _version(info: dict[str, Any]) -> list[str]:
    """Return what a store tells of a file that changes with its bytes."""
    names = ("ETag", "etag", "size", "mtime", "created", "LastModified", "last_modified", "generation")
    return [f"{name}={info[name]}" for name in names if name in info]
