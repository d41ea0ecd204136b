"""Image bytes to an array, or a reason why not; the first thing that `read_window` does.

The content decides what a file is, not its name. A file that was cut short never counts as whole,
and its size is read from the header before any pixel is decoded.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

REASONS = {
    "missing_partner": "only one side of the pair was found",
    "ambiguous": "two files of one side have the pair's name",
    "bad_name": "the file's name is not UTF-8",
    "missing_file": "the file is not there any more",
    "empty": "the file has no bytes",
    "wrong_type": "the content is not an image of a type that is read",
    "truncated": "the file ends before the image does",
    "unreadable": "the image is damaged",
    "too_many_pixels": "height x width is over --max-pixels",
    "size_mismatch": "the two sides differ in height or width",
    "too_small": "a side is shorter than 8 pixels",
    "no_finite_pixels": "an image has no finite value",
    "failed": "any other error, named in the detail",
}
"""Every reason for which a pair is rejected, and what it means. Nothing else is ever written."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
MAGIC = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "WEBP": (b"RIFF",),
}
OTHER_CONTENT = (
    (b"version https://git-lfs", "a git-lfs pointer: fetch the file itself (git lfs pull)"),
    (b"<", "HTML or XML text: an error page saved in the image's place?"),
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file: decompress it first"),
)
SCALAR_MODES = {"I": np.float32, "F": np.float32, "I;16": np.uint16, "I;16B": np.uint16}
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)  # none within a scan's data
JPEG_END = b"\xff\xd9"

STRIP_TAGS = ((273, 279), (324, 325))
"""TIFF tags of the offsets and byte counts of strips and of tiles."""

ImageFile.LOAD_TRUNCATED_IMAGES = False


class BadImage(ValueError):
    """A file that gives no image; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode_image(data: bytes, *, max_pixels: int) -> NDArray[np.generic]:
    """Return (H, W) or (H, W, 3) pixels, upright by the file's EXIF orientation.

    8-bit sources give uint8 (palette, 1-bit, alpha and CMYK become grey or RGB, alpha is dropped),
    16-bit grey gives uint16, 32-bit integers and floats give float32. Colour of 16 bits a channel
    comes as 8 bits. Of several pages, the first.

    Args:
        data: the whole file.
        max_pixels: largest height x width that is decoded.

    Raises:
        BadImage: with a reason of REASONS.
    """
    if not data:
        raise BadImage("empty", "0 bytes, expected an image: write the file again")
    kind = _content_type(data)
    with warnings.catch_warnings(), _no_other_limit():
        # Pillow warns of tags that have no part in the pixels.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_pixels(image.width, image.height, max_pixels)
                _check_strips(image, len(data))
                image.load()
                _check_end(data, kind)
                return _to_array(ImageOps.exif_transpose(image))
        except BadImage:
            raise
        # A parser that is given damaged bytes may raise anything; all of it means one thing here.
        except Exception as error:
            raise _damaged(data, kind, error) from error


@contextmanager
def _no_other_limit() -> Iterator[None]:
    """Put Pillow's own limit aside: max_pixels is checked before any pixel is decoded."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _content_type(data: bytes) -> str:
    for kind, starts in MAGIC.items():
        if data.startswith(starts) and (kind != "WEBP" or data[8:12] in (b"WEBP", b"")):
            return kind
        if any(len(data) < len(start) and start.startswith(data) for start in starts):
            raise BadImage("truncated", f"{len(data)} bytes, the beginning of a {kind} signature")
    text = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what in OTHER_CONTENT:
        if text.startswith(start):
            raise BadImage("wrong_type", f"the content is {what}")
    raise BadImage(
        "wrong_type",
        f"{len(data)} bytes that begin with {data[:8]!r}, expected {', '.join(FORMATS)}",
    )


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(
            "too_many_pixels",
            f"{height} x {width} px (height x width) is {width * height} pixels, expected at most "
            f"{max_pixels}: raise --max-pixels where memory allows",
        )


def _check_end(data: bytes, kind: str) -> None:
    """Raise where the pixels were complete but the file is not: it was cut within its last bytes."""
    if kind == "PNG":
        whole = b"IEND\xaeB`\x82" in data[-4096:]
    elif kind == "JPEG":
        whole = _jpeg_has_end(data)
    elif kind == "WEBP":
        whole = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    elif kind == "BMP":
        whole = len(data) >= int.from_bytes(data[2:6], "little")
    else:
        whole = True  # TIFF has no end mark; see _check_strips
    if not whole:
        raise BadImage("truncated", f"{len(data)} bytes of {kind} without its end mark")


def _check_strips(image: Image.Image, num_bytes: int) -> None:
    """Raise where a strip or tile of a TIFF ends after the file does."""
    tags = getattr(image, "tag_v2", {})
    for offset_tag, count_tag in STRIP_TAGS:
        for offset, count in zip(tags.get(offset_tag, ()), tags.get(count_tag, ()), strict=False):
            if offset + count > num_bytes:
                raise BadImage(
                    "truncated", f"{num_bytes} bytes of TIFF whose pixels end at {offset + count}"
                )


def _jpeg_has_end(data: bytes) -> bool:
    """Walk the segments, so that a thumbnail's end mark inside one does not count."""
    position = 2
    while found := JPEG_MARKER.search(data, position):
        if found.group() == JPEG_END:
            return True
        start = found.end()
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
    return False


def _damaged(data: bytes, kind: str, error: Exception) -> BadImage:
    said = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
    try:
        _check_end(data, kind)
    except BadImage as cut:
        return BadImage("truncated", f"{cut.detail} ({said})")
    short = isinstance(error, EOFError) or any(
        word in str(error).lower() for word in ("truncated", "not enough", "decoder error -2")
    )
    return BadImage("truncated" if short else "unreadable", f"{len(data)} bytes of {kind}: {said}")


def _to_array(image: Image.Image) -> NDArray[np.generic]:
    if image.mode in SCALAR_MODES:
        return np.ascontiguousarray(np.asarray(image).astype(SCALAR_MODES[image.mode]))
    if image.mode.startswith("I;16"):
        return np.ascontiguousarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA" if image.mode == "La" else image.mode).convert("L"))
    colour = np.array(image.convert("RGB"))
    if image.mode in ("P", "PA") and (colour == colour[..., :1]).all():
        return np.ascontiguousarray(colour[..., 0])
    return colour
