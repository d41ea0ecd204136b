"""Image files to arrays: `decode_image` returns the pixels, or raises the reason why there are none.

The content of a file decides its format, not its name. The size is read from the header before any pixel
is decoded. The decoders are libraries: imagecodecs for PNG, simplejpeg for JPEG, tifffile with
imagecodecs for TIFF (`tiff`), Pillow for BMP and WebP; each refuses damaged data.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image

from cluster.archive.reasons import BadImage
from cluster.archive.sources import radiometric
from cluster.archive.sources.completeness import JpegScans, is_cut
from cluster.archive.sources.image import (
    Pixels,
    SourceImage,
    check_pixels,
    damaged,
    upright,
    without_alpha,
)
from cluster.archive.sources.tiff import STARTS, decode_tiff

MAGIC = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": STARTS,
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
    (b"\x93NUMPY", "a NumPy array: write it as a TIFF"),
)
BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes that a BMP's header may give at byte 14, which tell a BMP from text that begins with BM."""
PNG_SIZE = slice(16, 24)
"""Bytes of a PNG that hold its width and height."""
PNG_END = b"IEND\xaeB`\x82"
"""Name and checksum of a PNG's last chunk, which has no content."""
ORIENTATION = 0x0112
STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
"""Message of the JPEG decoder about bytes between the end of the last scan and the end mark."""


def decode_image(data: bytes, *, max_pixels: int, temperatures: bool = False) -> SourceImage:
    """Return the pixels of a file, upright by its EXIF orientation, and where it has data.

    Samples of 8 bits or less give uint8, of up to 16 bits uint16, signed, wider and floating ones
    float32; palettes and CMYK become grey or RGB of 8 bits. Alpha that is used as a mask says where there
    are no data; other alpha is dropped. Of several pages or frames the first of full resolution counts.

    Args:
        data: all bytes of the file.
        max_pixels: largest height x width that is decoded.
        temperatures: whether a radiometric JPEG of FLIR gives its temperatures instead of its picture.

    Raises:
        BadImage: the file gives no image; its reason is one of REASONS.
    """
    if not data:
        raise BadImage("empty", "0 bytes, expected an image: write the file again")
    kind = _content_type(data)
    decoders: dict[str, Callable[..., SourceImage]] = {
        "PNG": _decode_png,
        "JPEG": _decode_jpeg,
        "TIFF": decode_tiff,
        "BMP": _decode_by_pillow,
        "WEBP": _decode_by_pillow,
    }
    maker = radiometric.maker_of(data)
    if maker == "FLIR" and temperatures:
        return radiometric.read_temperatures(data, max_pixels=max_pixels)
    try:
        image = decoders[kind](data, max_pixels=max_pixels)
        return replace(image, note=radiometric.note_of(maker)) if maker else image
    except BadImage:
        raise
    # On damaged bytes a parser may raise any error; each means that the file can't be decoded.
    except Exception as error:
        raise damaged(len(data), kind, error) from error


def _content_type(data: bytes) -> str:
    for kind, starts in MAGIC.items():
        if data.startswith(starts) and _is_really(kind, data):
            return kind
        if any(len(data) < len(start) and start.startswith(data) for start in starts):
            raise BadImage("truncated", f"{len(data)} bytes, the beginning of a {kind} signature")
    text = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what in OTHER_CONTENT:
        if text.startswith(start):
            raise BadImage("wrong_type", f"the content is {what}")
    raise BadImage(
        "wrong_type",
        f"{len(data)} bytes that begin with {data[:8]!r}, expected {', '.join(MAGIC)}: write the "
        "file as one of them",
    )


def _is_really(kind: str, data: bytes) -> bool:
    """Return whether the bytes after a short signature fit the format, as far as there are any."""
    if kind == "WEBP":
        return b"WEBP".startswith(data[8:12])
    if kind == "BMP" and len(data) >= 18:
        return int.from_bytes(data[14:18], "little") in BMP_HEADER_BYTES
    return True


def _decode_png(data: bytes, *, max_pixels: int) -> SourceImage:
    size = data[PNG_SIZE]
    check_pixels(int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big"), max_pixels)
    samples = imagecodecs.png_decode(data)
    if PNG_END not in data:
        raise _cut(data, "PNG")
    orientation = _orientation(data, "PNG") if b"eXIf" in data else 1
    return upright(_from_samples(samples, grey_palette=data[25] == 3), orientation)


def _decode_jpeg(data: bytes, *, max_pixels: int) -> SourceImage:
    scans = JpegScans(data)
    check_pixels(scans.width, scans.height, max_pixels)
    if scans.width and not scans.is_decoded:
        raise BadImage(
            "wrong_type",
            f"a JPEG of {scans.bits} bits or of a lossless coding, expected 8 bits of the usual kind: "
            "convert the file",
        )
    if not scans.is_complete:
        raise _cut(data, "JPEG")
    space = simplejpeg.decode_jpeg_header(data)[2]
    if space not in ("Gray", "RGB", "YCbCr"):  # of CMYK, Pillow knows which programs store it inverted
        simplejpeg.decode_jpeg(data, "CMYK", strict=True)
        return _decode_by_pillow(data, max_pixels=max_pixels)
    wanted = "GRAY" if space == "Gray" else "RGB"
    try:
        samples = simplejpeg.decode_jpeg(data, wanted, strict=True)
    except ValueError as error:
        if not _is_padded(data, scans.end, str(error)):
            raise
        samples = simplejpeg.decode_jpeg(data, wanted, strict=False)
    return upright(_from_samples(samples), _orientation(data, "JPEG"))


def _is_padded(data: bytes, end: int, said: str) -> bool:
    """Return whether a JPEG's only fault are equal bytes before its end mark, as cameras fill blocks."""
    stray = STRAY.search(said)
    if not stray:
        return False
    padding = data[end - int(stray[1]) : end]
    return len(set(padding)) == 1


def _decode_by_pillow(data: bytes, *, max_pixels: int) -> SourceImage:
    kind = _content_type(data)
    with warnings.catch_warnings(), _no_other_limit():
        warnings.simplefilter("ignore")  # about tags that do not affect the pixels
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            check_pixels(image.width, image.height, max_pixels)
            if kind != "JPEG" and is_cut(data, kind):
                raise _cut(data, kind)
            palette = image.mode == "P"
            mode = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(image.mode, image.mode)
            samples = np.array(image.convert(mode))
    return upright(_from_samples(samples, grey_palette=palette), _orientation(data, kind))


def _cut(data: bytes, kind: str) -> BadImage:
    return BadImage(
        "truncated",
        f"{len(data)} bytes of {kind} that end before the image does, expected the whole file: "
        "copy it again",
    )


@contextmanager
def _no_other_limit() -> Iterator[None]:
    """Suspend Pillow's own pixel limit; max_pixels is checked before any pixel is decoded."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _from_samples(samples: Pixels, *, grey_palette: bool = False) -> SourceImage:
    """Turn (H, W) or (H, W, 1 to 4) samples into an image; a palette of greys becomes grey."""
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    has_alpha = samples.ndim == 3 and samples.shape[2] in (2, 4)
    image = without_alpha(samples) if has_alpha else SourceImage(samples)
    if grey_palette and image.pixels.ndim == 3 and (image.pixels == image.pixels[..., :1]).all():
        return SourceImage(np.ascontiguousarray(image.pixels[..., 0]), image.valid)
    return image


def _orientation(data: bytes, kind: str) -> int:
    # A damaged EXIF turns nothing.
    with suppress(Exception), warnings.catch_warnings(), _no_other_limit():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    return 1
