"""A source: an image of which single windows are read, so that it need not fit into memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cluster.archive.sources.image import Mask, Pixels, SourceImage
from dmnet_core.prepare import finite_pixels
from dmnet_core.reading import overview_of

STRIP_PIXELS = 1 << 22
"""Most pixels that are read at once to make a reduced image, where whole rows are read."""
BLOCK_SIDE = 1024
"""Side, in pixels, of the blocks that are read one by one to make a reduced image, or to warp one."""


class Window(NamedTuple):
    """Rows and columns of an image, in pixels."""

    y: int
    """First row."""
    x: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""


@dataclass(kw_only=True)
class Source(ABC):
    """An open image; for one thread."""

    url: str
    """URL of the file or array."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""
    num_bands: int
    """Number of bands that the file has, whichever are read."""
    dtype: str
    """Type of the pixels that are read: uint8, uint16 or float32."""
    is_colour: bool
    """Whether the pixels that are read are (H, W, 3), and not (H, W)."""
    crs: str = ""
    """Coordinate reference system as WKT; empty where the file has none."""
    transform: tuple[float, float, float, float, float, float] | None = None
    """(a, b, c, d, e, f): the pixel corner (column, row) is at x = a*column + b*row + c and
    y = d*column + e*row + f of the crs; None where the file has none."""
    nodata: float | None = None
    """Value that the file declares to stand for no data; None where there is none."""
    etag: str = ""
    """What the store calls the version of the file that is read; empty for an array of many objects, and
    of a file that names others only its own: see `parts_version`."""
    digest: str = ""
    """Digest of the file's bytes, as `digest_of` makes it; empty where the file was not read whole, or
    names others that hold the pixels."""
    note: str = ""
    """What a user should know about the pixels; empty where there is nothing."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Bytes fetched so far."""

    def parts_version(self) -> str:
        """Return a digest of the versions of all other files that hold the pixels; empty without any.

        The store is asked for each of these files, or lists them.

        Raises:
            StorageError: it can't be asked.
        """
        return ""

    @property
    def whole(self) -> Window:
        """All of the image."""
        return Window(0, 0, self.height, self.width)

    def read(self, window: Window) -> SourceImage:
        """Return the pixels of a window, (H, W) or (H, W, 3), and the mask of those with data.

        Raises:
            BadImage: the file is damaged there.
            StorageError: the file can't be read, or was replaced since it was opened.
        """
        assert window.height > 0 and window.width > 0 and window.y >= 0 and window.x >= 0, window
        assert window.y + window.height <= self.height, (window, self.height, self.width)
        assert window.x + window.width <= self.width, (window, self.height, self.width)
        return self._read(window)

    @abstractmethod
    def overview(self, max_side: int) -> SourceImage:
        """Return the whole image, reduced by a whole number so that no side is longer than `max_side`.

        Pixels are means. A file without reduced images of its own is read whole, piece by piece.
        """

    @abstractmethod
    def _read(self, window: Window) -> SourceImage: ...


@dataclass(kw_only=True)
class DecodedSource(Source):
    """An image that was decoded whole."""

    image: SourceImage
    """All of its pixels."""
    file_bytes: int = 0
    """Size of the file in bytes."""

    @property
    def num_bytes(self) -> int:
        """Bytes fetched so far: those of the whole file."""
        return self.file_bytes

    def overview(self, max_side: int) -> SourceImage:
        """Return the image reduced to at most `max_side`; see `Source.overview`."""
        step = reduction(self.height, self.width, max_side)
        return read_in_blocks(self.read, self.whole, BLOCK_SIDE, step)

    def _read(self, window: Window) -> SourceImage:
        return cut(self.image, window)


def decoded(image: SourceImage, url: str, **known: Any) -> DecodedSource:
    """Return an image in memory as a source; `known` are further fields of it."""
    height, width = image.pixels.shape[:2]
    known.setdefault("num_bands", 1 if image.pixels.ndim == 2 else image.pixels.shape[2])
    return DecodedSource(
        url=url,
        height=height,
        width=width,
        dtype=image.pixels.dtype.name,
        is_colour=image.pixels.ndim == 3,
        image=image,
        **known,
    )


def digest_of(data: bytes) -> str:
    """Return the digest by which bytes are told from others, also where a copy has another etag."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def cut(image: SourceImage, window: Window) -> SourceImage:
    """Return a window of an image."""
    place = np.s_[window.y : window.y + window.height, window.x : window.x + window.width]
    valid = None if image.valid is None else image.valid[place]
    return SourceImage(image.pixels[place], valid, image.note)


def reduction(height: int, width: int, max_side: int) -> int:
    """Return the whole number by which an image is reduced so that no side is longer than `max_side`."""
    return max(1, -(-max(height, width) // max_side))


def read_reduced(source: Source, window: Window, step: int) -> SourceImage:
    """Read a window by `shrink`, in strips of no more than STRIP_PIXELS, or of `step` rows."""
    if step == 1:
        return source.read(window)
    rows = max(1, STRIP_PIXELS // (window.width * step)) * step
    strips = []
    for y in range(window.y, window.y + window.height, rows):
        height = min(rows, window.y + window.height - y)
        strips.append(shrink(source.read(Window(y, window.x, height, window.width)), step))
    return joined(strips, axis=0)


def read_in_blocks(
    read: Callable[[Window], SourceImage], window: Window, side: int, step: int
) -> SourceImage:
    """Read a window by `shrink`, in blocks of about `side` pixels a side, and at least `step`."""
    rows: dict[int, list[SourceImage]] = {}
    for block in blocks_of(window, max(1, side // step) * step):
        rows.setdefault(block.y, []).append(shrink(read(block), step))
    return joined([joined(blocks, axis=1) for blocks in rows.values()], axis=0)


def blocks_of(window: Window, side: int) -> Iterator[Window]:
    """Yield the blocks of `side` pixels a side that a window is cut into, row by row."""
    for y in range(window.y, window.y + window.height, side):
        for x in range(window.x, window.x + window.width, side):
            height, width = window.y + window.height - y, window.x + window.width - x
            yield Window(y, x, min(side, height), min(side, width))


def joined(parts: Sequence[SourceImage], axis: int) -> SourceImage:
    """Return images put together along an axis, 0 or 1; a note is that of the first."""
    pixels = np.concatenate([part.pixels for part in parts], axis)
    if all(part.valid is None for part in parts):
        return SourceImage(pixels, None, parts[0].note)
    return SourceImage(pixels, np.concatenate([data_of(part) for part in parts], axis), parts[0].note)


def shrink(image: SourceImage, step: int) -> SourceImage:
    """Return the means of blocks of step x step pixels, of which those at the far edges may be smaller.

    Only pixels with data count; a block without any has no data.
    """
    if step == 1:
        return image
    pixels, valid = overview_of(image.pixels, image.valid, step)
    return SourceImage(pixels, valid, image.note)


def data_of(image: SourceImage) -> Mask:
    """Return which pixels of an image have data, (H, W): those of the mask that are finite numbers."""
    valid = finite_pixels(image.pixels, image.valid)
    return np.ones(image.pixels.shape[:2], np.bool_) if valid is None else valid


def as_dtype(values: Pixels, dtype: np.dtype[np.generic]) -> Pixels:
    """Return numbers as the type of an image; those of an integer type are rounded."""
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)
