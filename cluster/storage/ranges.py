"""Ranges of a file's bytes, all of the version that the file had when it was opened.

A small file costs one request, as by `objects.read_bytes`: an object store is first asked for the
beginning, which is kept. A file that is replaced while it is read is an error, never a mixture of two
versions: S3 is asked by If-Match, and the version is looked at again after each read elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import fsspec

from cluster.storage.objects import local_etag, open_regular
from cluster.storage.s3 import guarded, storage_error
from cluster.storage.urls import StorageError, is_remote, local_path, redact_url
from cluster.storage.versions import etag_in, info_if_told, info_of, version_in

BLOCK_BYTES = 1 << 16
"""Shorter reads, as those of headers, fetch whole blocks of this size, which are kept for the next."""
FIRST_BYTES = 1 << 19
"""Bytes at the beginning of a file on an object store that its first request asks for."""
NUM_BLOCKS = 64
"""Blocks that one open file keeps."""
NUM_REQUESTS = 8
"""Requests for ranges of one file that are under way at once."""
Range = tuple[int, int]
"""First byte, and the byte behind the last one."""
T = TypeVar("T")


class _Reader(Protocol):
    """One version of one file."""

    size: int
    etag: str
    start: bytes
    """Beginning of the file, as far as it came with the answer that told of the file."""

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]: ...

    def close(self) -> None: ...


class RangeFile(io.RawIOBase):
    """A file to read and seek in, of which only the ranges that are read are fetched; for one thread.

    Raises:
        FileNotFoundError: there is no such file; a prefix or a folder of an object store is none.
        StorageError: it can't be read, or has changed since it was opened.
    """

    def __init__(self, url: str, *, first_bytes: int = FIRST_BYTES) -> None:
        """Open a file, whose first request to an object store asks for up to `first_bytes`."""
        self.url = url
        scheme = url.split("://", 1)[0]
        reader: _Reader
        if not is_remote(url):
            reader = _LocalReader(url)
        elif scheme in ("s3", "s3a"):
            reader = _S3Reader(url, first_bytes)
        else:
            reader = _OtherReader(url, first_bytes)
        self._reader = reader
        self.size = reader.size
        """Size of the file in bytes."""
        self.etag = reader.etag
        """What the store calls the version that is read, as `objects.FileInfo` has it; empty where it was
        not asked."""
        self.num_fetched = len(reader.start)
        """Bytes fetched so far."""
        self._kept = reader.start
        """Beginning of the file, which is not fetched again."""
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return several ranges, fetched side by side; the name is the one by which rasterio calls it."""
        return self._fetch([(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True)])

    def keep_whole(self) -> bytes:
        """Fetch what is missing of the file, keep all of it for later reads, and return it."""
        if len(self._kept) < self.size:
            (rest,) = self._fetch([(len(self._kept), self.size)])
            self._kept += rest
        return self._kept

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes from the position on, up to the end where it is negative."""
        start = self._position
        end = self.size if size is None or size < 0 else min(start + size, self.size)
        if end <= start:
            return b""
        if end <= len(self._kept) or end - start >= BLOCK_BYTES:
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
        """Let go of the file and of what is kept of it."""
        if not self.closed:
            self._reader.close()
            self._blocks.clear()
            self._kept = b""
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
        missing = [(start, end) for start, end in ranges if end > len(self._kept)]
        fetched = self._reader.fetch(missing) if missing else []
        for (start, end), data in zip(missing, fetched, strict=True):
            if len(data) != end - start:
                raise _too_few(self.url, len(data), start, end)
            self.num_fetched += len(data)
        left = iter(fetched)
        return [
            self._kept[start:end] if end <= len(self._kept) else next(left) for start, end in ranges
        ]


def replaced(url: str) -> StorageError:
    """Return the error of a file whose version is not the one that was opened."""
    return StorageError(
        f"{redact_url(url)!r} was replaced while it was read, expected one version of the file: run the "
        "same command again when nothing writes there"
    )


def _too_few(url: str, num_bytes: int, start: int, end: int) -> StorageError:
    return StorageError(
        f"{redact_url(url)!r} gave {num_bytes} bytes of the {end - start} from byte {start} on, expected "
        "all: run the same command again when the store is well"
    )


class _LocalReader:
    """A local file, looked at again after each read."""

    start = b""

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


class _S3Reader:
    """An object of S3, asked for by its ETag from the second request on."""

    def __init__(self, url: str, first_bytes: int) -> None:
        self._url = url
        try:
            answer, self.start = self._call(lambda store: self._get(store, 0, first_bytes))
        except StorageError as error:
            if not _answered(error, "InvalidRange", "416"):
                raise
            info = info_of(url)  # an empty object has no range
            answer, self.start = {"ETag": info.get("ETag", "")}, b""
        self._tag = str(answer.get("ETag", ""))
        self.etag = self._tag.strip('"')
        # A store that knows no ranges has given the whole object.
        told = str(answer.get("ContentRange", "")).rpartition("/")[2]
        self.size = int(told) if told.isdigit() else len(self.start)
        if len(self.start) < min(first_bytes, self.size):
            raise _too_few(url, len(self.start), 0, min(first_bytes, self.size))

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        try:
            return self._call(lambda store: self._fetch_all(store, ranges))
        except FileNotFoundError as error:
            raise replaced(self._url) from error

    def close(self) -> None:
        pass

    def _call(self, ask: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        def call(store: Any) -> T:
            found: T = fsspec.asyn.sync(store.loop, ask, store)
            return found

        return guarded(self._url, call)

    async def _fetch_all(self, store: Any, ranges: Sequence[Range]) -> list[bytes]:
        limit = asyncio.Semaphore(NUM_REQUESTS)

        async def fetch(start: int, end: int) -> bytes:
            if start == end:
                return b""
            async with limit:
                try:
                    answer, data = await self._get(store, start, end, IfMatch=self._tag)
                except Exception as error:
                    if _answered(error, "PreconditionFailed", "412"):
                        raise replaced(self._url) from error
                    raise
            if answer.get("ETag") != self._tag:  # of a store that knows no If-Match
                raise replaced(self._url)
            return data

        return list(await asyncio.gather(*(fetch(start, end) for start, end in ranges)))

    async def _get(
        self, store: Any, start: int, end: int, **condition: str
    ) -> tuple[dict[str, Any], bytes]:
        """Return the store's answer to a request for a range, and its bytes."""
        from s3fs.core import _error_wrapper

        bucket, key, _ = store.split_path(self._url)
        if not key:
            raise FileNotFoundError(f"{redact_url(self._url)!r} is a folder")

        async def try_once() -> tuple[dict[str, Any], bytes]:
            answer = await store._call_s3(
                "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **condition
            )
            try:
                return answer, await answer["Body"].read()
            finally:
                answer["Body"].close()

        found: tuple[dict[str, Any], bytes] = await _error_wrapper(try_once, retries=store.retries)
        return found


def _answered(error: BaseException | None, *codes: str) -> bool:
    """Return whether an error, or what it came from, is an answer of S3 with one of the codes."""
    while error is not None:
        answer = getattr(error, "response", {})
        if answer.get("Error", {}).get("Code") in codes:
            return True
        error = error.__cause__
    return False


class _OtherReader:
    """A file of any other store of fsspec, looked at again after each read."""

    def __init__(self, url: str, first_bytes: int) -> None:
        self._url = url
        self.start, self.etag, self._version = b"", "", [""]
        try:
            self.start = guarded(url, lambda store: store.cat_file(url, 0, first_bytes))
        except StorageError:
            if info_if_told(url).get("size") != 0:  # of an empty file, a range may be refused
                raise
        self.size = len(self.start)
        if self.size != first_bytes:  # the whole file: it is shorter, or the store knows no ranges
            return
        info = info_if_told(url)
        if info.get("size") is None:  # of a server that tells none
            self.start = guarded(url, lambda store: store.cat_file(url))
            self.size = len(self.start)
            return
        self.start = b""  # its version is not known
        self.size, self.etag, self._version = int(info["size"]), etag_in(info), version_in(info)

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        try:
            found: list[bytes] = guarded(
                self._url,
                lambda store: [store.cat_file(self._url, start, end) for start, end in ranges],
            )
            if version_in(info_of(self._url)) != self._version:
                raise replaced(self._url)
        except FileNotFoundError as error:
            raise replaced(self._url) from error
        return found

    def close(self) -> None:
        pass
