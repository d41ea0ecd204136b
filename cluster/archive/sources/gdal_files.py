"""The files that GDAL may open for one image: those that are named to it, through our storage.

GDAL asks for names below a folder that exists for it alone; any other name is not there. So credentials,
endpoints and retries are the same everywhere, and a file cannot lead GDAL to another one.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import NotGeoreferencedWarning

from cluster.archive.reasons import BadImage
from cluster.archive.sources.image import damaged
from cluster.archive.sources.tiff import STARTS, UNCOMPRESSED, block_shape
from cluster.archive.sources.tiff_header import check_block, read_header
from cluster.storage.ranges import RangeFile, replaced
from cluster.storage.urls import redact_url

GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no files beside the image are looked for
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # GDAL's own way to the network is closed
    "GDAL_CACHEMAX": 64,  # MB; without it GDAL keeps up to a twentieth of the machine's memory
    "GDAL_MAX_DATASET_POOL_SIZE": 32,
    "VRT_SHARED_SOURCE": 0,
    "PROJ_NETWORK": "OFF",
}

logging.getLogger(rasterio.__name__).setLevel(logging.CRITICAL)  # it logs what it also raises


class GdalFiles(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """What GDAL sees of the world while it reads one image."""

    def __init__(self, files: Mapping[str, RangeFile | io.BytesIO | str], max_pixels: int) -> None:
        """Offer files by the names that GDAL asks for: open ones, or URLs of TIFFs to open when asked.

        A TIFF that is opened when asked has at most `max_pixels` in a strip or tile.
        """
        self._files = files
        self._max_pixels = max_pixels
        self._etags: dict[str, str] = {}
        self.num_fetched_before = 0
        """Bytes fetched of files that are closed by now."""
        self._opened: list[RangeFile] = []
        self.error: Exception | None = None
        """What went wrong in our storage; from then on nothing that GDAL says of the image counts."""

    @property
    def num_fetched(self) -> int:
        """Bytes fetched so far, of all files."""
        given = [file for file in self._files.values() if isinstance(file, RangeFile)]
        return self.num_fetched_before + sum(file.num_fetched for file in (*given, *self._opened))

    def close(self, file: RangeFile) -> None:
        """Let go of a file that was opened when GDAL asked for it."""
        file.close()
        self._opened.remove(file)
        self.num_fetched_before += file.num_fetched

    def open(self, path: str, mode: str = "r", **_: Any) -> GdalFile:
        """Return an open file of a name."""
        found = self._files.get(path)
        if found is None or mode not in ("r", "rb"):
            raise FileNotFoundError(path)
        if not isinstance(found, str):
            return GdalFile(found, self, is_own=False)
        try:
            return GdalFile(self._open_tiff(found), self, is_own=True)
        except Exception as error:
            self.error = error
            raise

    def _open_tiff(self, url: str) -> RangeFile:
        named = redact_url(url).rpartition("/")[2]
        try:
            file = RangeFile(url)
        except FileNotFoundError as error:
            raise BadImage(
                "missing_file", f"{named!r} is not there, expected it as a VRT names it: copy it there"
            ) from error
        try:
            if not file.read(4).startswith(STARTS):
                raise BadImage("wrong_type", f"{named!r} is named by a VRT and no TIFF, expected a TIFF")
            page = read_header(file)
            if page.compression != UNCOMPRESSED:  # of those, GDAL reads parts of a strip
                bands = page.samplesperpixel if int(page.planarconfig) == 1 else 1
                check_block(repr(named), *block_shape(page), bands, self._max_pixels)
            if self._etags.setdefault(url, file.etag) != file.etag:
                raise replaced(url)
        except BaseException:
            file.close()
            raise
        self._opened.append(file)
        return file

    def isfile(self, path: str) -> bool:
        """Return whether there is a file of a name."""
        return path in self._files

    def isdir(self, path: str) -> bool:
        """Return False: there are no folders."""
        return False

    def ls(self, path: str) -> list[str]:
        """Return no names: nothing is looked for."""
        return []

    def mtime(self, path: str) -> int:
        """Return 0: no file changes while it is open."""
        return 0

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        with self.open(path) as file:
            return file.seek(0, io.SEEK_END)

    def rm(self, path: str) -> None:
        """Raise: nothing is removed."""
        raise PermissionError(path)


class GdalFile:
    """An open file as GDAL reads it, which notes the errors of its storage for `call_gdal` to raise."""

    def __init__(self, file: RangeFile | io.BytesIO, owner: GdalFiles, *, is_own: bool) -> None:
        self._file, self._owner, self._is_own = file, owner, is_own
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the position on; fewer than there are after an error."""
        data = b""
        with self._noted():
            self._file.seek(self._position)
            data = self._file.read(size)
        self._position += len(data)
        return data

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """Return several ranges; zeros after an error."""
        with self._noted():
            assert isinstance(self._file, RangeFile)
            found = self._file.get_byte_ranges(offsets, sizes)
            if list(map(len, found)) == list(sizes):
                return found
            raise BadImage(
                "truncated",
                f"{self._file.size} bytes of TIFF that end before its pixels do, expected the whole "
                "file: copy it again",
            )
        return [bytes(size) for size in sizes]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, and return it."""
        self._file.seek(self._position)
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Let go of the file where it was opened for GDAL."""
        if self._is_own and isinstance(self._file, RangeFile) and not self._file.closed:
            self._owner.close(self._file)

    def __enter__(self) -> GdalFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # rasterio can't hand it on
            self._owner.error = error


def call_gdal(files: GdalFiles, num_bytes: int, call: Callable[[], Any]) -> Any:
    """Call GDAL, and turn its errors into ours.

    Raises:
        BadImage: GDAL can't read the image, a file of `num_bytes` bytes.
        StorageError, FileNotFoundError: the storage below it failed.
    """
    if files.error is not None:
        raise files.error
    try:
        with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            found = call()
        if files.error is None:
            return found
    except BadImage:
        raise
    except Exception as error:  # GDAL raises errors of many kinds on damaged bytes
        if files.error is not None:
            raise files.error from error
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise damaged(num_bytes, "TIFF or VRT", cause) from error
    raise files.error
