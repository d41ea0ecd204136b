"""Image files to arrays: `decode_image` returns the pixels, or raises the reason why there are none.

The content of a file decides its format, not its name. An incomplete file is refused (`completeness`),
and the size is read from the header before any pixel is decoded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cluster.archive.reasons import BadImage
from cluster.archive.sources.completeness import JpegScans, find_defect

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
BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes that a BMP's header may give at byte 14, which tell a BMP from text that begins with BM."""

PHOTOMETRIC, BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, SAMPLE_FORMAT = 262, 258, 277, 339
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2
"""TIFF tags and tag values that Pillow ignores for some sample types."""
PNG_GREY = 0
"""PNG's colour type of grey without alpha."""
NARROW_LEVELS = 32
"""Number of 8-bit levels below which a 16-bit grey image has lost its detail in the conversion."""
NATIVE_ORDER = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}
"""Pillow's raw modes of big-endian samples, and the modes of these samples after libtiff has decoded
them to the machine's byte order."""

ImageFile.LOAD_TRUNCATED_IMAGES = False


def decode_image(data: bytes, *, max_pixels: int) -> NDArray[np.generic]:
    """Return (H, W) or (H, W, 3) pixels, upright by the file's EXIF orientation.

    8-bit sources give uint8 (palette, 1-bit and CMYK images become grey or RGB, alpha is dropped), 16-bit
    grey gives uint16, and signed integers, 32-bit integers and floats give float32. Colour with 16 bits a
    channel is reduced to 8 bits; an image that would keep fewer than NARROW_LEVELS of them is refused. Of
    several pages or frames the first is decoded.

    Args:
        data: all bytes of the file.
        max_pixels: largest height x width that is decoded.

    Raises:
        BadImage: the file gives no image; its reason is one of REASONS.
    """
    if not data:
        raise BadImage("empty", "0 bytes, expected an image: write the file again")
    kind = _content_type(data)
    with warnings.catch_warnings(), _no_other_limit():
        # Pillow warns about tags that do not affect the pixels.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_pixels(image.width, image.height, max_pixels)
                tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
                if defect := find_defect(data, kind, tags):
                    raise BadImage(*defect)
                _mend_tiles(image, tags)
                image.load()
                if kind == "JPEG":
                    _check_scans(image, data)
                pixels = _to_array(ImageOps.exif_transpose(image), tags)
            if kind == "PNG":
                _check_depth(data, pixels)
            return pixels
        except BadImage:
            raise
        # On damaged bytes a parser may raise any error; each means that the file can't be decoded.
        except Exception as error:
            raise _damaged(data, kind, error) from error


@contextmanager
def _no_other_limit() -> Iterator[None]:
    """Suspend Pillow's own pixel limit; max_pixels is checked before any pixel is decoded."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


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
        f"{len(data)} bytes that begin with {data[:8]!r}, expected {', '.join(FORMATS)}: write the "
        "file as one of them",
    )


def _is_really(kind: str, data: bytes) -> bool:
    """Return whether the bytes after a short signature fit the format, as far as there are any."""
    if kind == "WEBP":
        return b"WEBP".startswith(data[8:12])
    if kind == "BMP" and len(data) >= 18:
        return int.from_bytes(data[14:18], "little") in BMP_HEADER_BYTES
    return True


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(
            "too_many_pixels",
            f"{height} x {width} px (height x width) is {width * height} pixels, expected at most "
            f"{max_pixels}: raise --max-pixels where memory allows",
        )


def _check_depth(data: bytes, pixels: NDArray[np.generic]) -> None:
    """Raise where a PNG's 16-bit grey, stored as colour or with alpha, is nearly constant in 8 bits."""
    bits, colour_type = data[24], data[25]
    if bits != 16 or colour_type == PNG_GREY or np.ptp(pixels) >= NARROW_LEVELS:
        return
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        raise BadImage(
            "wrong_type",
            f"a PNG of 16-bit grey levels as colour or with alpha, of which {np.ptp(pixels) + 1} levels "
            "are left in the 8 bits that are read, expected 16-bit grey alone: write it so",
        )


def _check_scans(image: Image.Image, data: bytes) -> None:
    """Raise where a JPEG was cut within a scan and given an end mark.

    The file is decoded a second time: libjpeg invents missing data, and Pillow drops its warning.
    """
    with Image.open(io.BytesIO(JpegScans(data).with_filler()), formats=["JPEG"]) as filled:
        if filled.tobytes() != image.tobytes():
            raise BadImage(
                "truncated",
                f"{len(data)} bytes of JPEG whose pixels end before its end mark, expected the whole "
                "file: copy it again",
            )


def _mend_tiles(image: Image.Image, tags: Mapping[int, Any]) -> None:
    """Correct the raw modes with which Pillow would misread the samples of a TIFF.

    It misreads compressed big-endian floats and signed integers, and uncompressed planes of 16 bits.
    """
    if not tags:
        return
    deep = 16 in tags.get(BITS_PER_SAMPLE, ())
    order = "B" if getattr(tags, "prefix", b"II") == b"MM" else "L"
    mended = []
    for tile in getattr(image, "tile", []):
        codec, args = tile.codec_name, tile.args
        if codec == "libtiff" and args[0] in NATIVE_ORDER:
            args = (NATIVE_ORDER[args[0]], *args[1:])
        elif codec == "raw" and deep and args[0] in tuple("RGB"):
            args = (f"{args[0]};16{order}", *args[1:])
        mended.append(tile._replace(args=args))
    image.tile = mended  # type: ignore[attr-defined]


def _damaged(data: bytes, kind: str, error: Exception) -> BadImage:
    cause = _cause(data, kind, error)
    said = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
    layout, num_bands = "", 1
    with suppress(Exception):  # the same damage may make these fail too: the first error counts then
        tags = _tiff_tags(data) if kind == "TIFF" else {}
        if defect := find_defect(data, kind, tags):
            return BadImage(*defect)
        if tags:
            num_bands = tags.get(SAMPLES_PER_PIXEL, 1)
            sample_format = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
            layout = f" of {tags[BITS_PER_SAMPLE][0]} bits x {num_bands}, sample format {sample_format}"
    if num_bands not in (1, 2, 3, 4) or "unknown pixel mode" in said:
        return BadImage(
            "wrong_type",
            f"a {kind}{layout}, expected grey or RGB of 8 or 16 bits, or grey of 32-bit numbers: "
            "convert the file",
        )
    short = isinstance(error, EOFError) or any(
        word in str(error).lower() for word in ("truncated", "not enough")
    )
    return BadImage(
        "truncated" if short else "unreadable",
        f"{len(data)} bytes of {kind} that can't be decoded ({said}), expected an undamaged file: "
        "write it again",
    )


def _tiff_tags(data: bytes) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first page, also where Pillow opens none."""
    file = io.BytesIO(data)
    header = file.read(16 if data[2:3] == b"+" or data[3:4] == b"+" else 8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _cause(data: bytes, kind: str, error: Exception) -> Exception:
    """Return the parser's own error where Pillow only reports that no parser accepted the file."""
    if isinstance(error, UnidentifiedImageError):
        try:
            Image.OPEN[kind][0](io.BytesIO(data), "")
        except Exception as cause:
            return cause
    return error


def _to_array(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[np.generic]:
    mode = image.mode
    sample_format = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    if mode.startswith("I;16"):
        counts = np.asarray(image).astype(np.uint16)
        inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
        return ~counts if inverted else counts
    if mode == "I":
        numbers = np.asarray(image)
        if tags.get(BITS_PER_SAMPLE) == (32,) and sample_format == UNSIGNED:
            numbers = numbers.view(np.uint32)
        return numbers.astype(np.float32)
    if mode == "F":
        return np.array(image, dtype=np.float32)
    if mode == "L" and sample_format == SIGNED:
        return np.asarray(image).view(np.int8).astype(np.float32)
    if mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA" if mode == "La" else mode).convert("L"))
    colour = np.array(image.convert("RGB"))
    if mode in ("P", "PA") and (colour == colour[..., :1]).all():
        return np.ascontiguousarray(colour[..., 0])
    return colour
