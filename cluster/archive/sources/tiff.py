"""TIFF files to arrays, by tifffile and imagecodecs: the first page of full resolution."""

from __future__ import annotations

import io
import logging
import math
from itertools import islice

import numpy as np
import tifffile
from tifffile import TIFF, TiffFile, TiffPage

from cluster.archive.reasons import BadImage
from cluster.archive.sources.completeness import JpegScans
from cluster.archive.sources.image import Mask, Pixels, SourceImage, check_pixels, upright, without_alpha

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in both byte orders."""
REDUCED, MASK = 1, 4
"""Bits of NewSubfileType: a page of reduced resolution, a page that is the mask of another."""
ORIENTATION, GDAL_NODATA = 274, 42113
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
GREY_OR_RGB = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR)
ALPHA = (1, 2)
"""Kinds of extra sample that are alpha."""
UNCOMPRESSED, JPEG = 1, 7
MAX_SAMPLES = 4
MAX_PAGES = 64
"""Pages that are looked at: those of one image and its masks come first."""

logging.getLogger(tifffile.__name__).setLevel(logging.CRITICAL)  # it logs what it also raises


def decode_tiff(data: bytes, *, max_pixels: int) -> SourceImage:
    """Return the first page that is neither a reduced image nor a mask; see `frames.decode_image`.

    No data are pixels that all bands give the value of GDAL_NODATA, that a mask page leaves out, that are
    wholly transparent, or that lie in a strip or tile of no bytes (a sparse file).

    Raises:
        BadImage: the file gives no image; a damaged one may raise any other error.
    """
    with TiffFile(io.BytesIO(data)) as file:
        pages = [page for page in islice(file.pages, MAX_PAGES) if isinstance(page, TiffPage)]
        page = full_page(pages)
        check_pixels(page.imagewidth, page.imagelength, max_pixels)
        check_layout(page)
        sparse = _check_segments(page, data)
        samples = page.asarray(squeeze=False, maxworkers=1)  # (planes, 1, H, W, samples)
        samples = np.moveaxis(samples, 0, -1).reshape(page.imagelength, page.imagewidth, -1)
        valid = _valid(page, pages, samples, sparse)
        image = _as_image(page, samples)
    valids = [mask for mask in (valid, image.valid) if mask is not None]
    both = SourceImage(image.pixels, np.logical_and.reduce(valids) if valids else None)
    tag = page.tags.get(ORIENTATION)
    return upright(both, tag.value if tag else 1)


def full_page(pages: list[TiffPage]) -> TiffPage:
    """Return the first page that is neither a reduced image nor a mask; the first where all are."""
    inner = [page for outer in pages if outer.subifds for page in outer.pages or () if page is not None]
    for page in (*pages, *inner):
        if isinstance(page, TiffPage) and not int(page.subfiletype) & (REDUCED | MASK):
            return page
    return pages[0]


def check_layout(page: TiffPage) -> None:
    """Raise BadImage where a page's samples are of a kind that is not read."""
    photometric, kind = int(page.photometric or 0), page.dtype
    compression = getattr(page.compression, "name", str(page.compression))
    what = (
        f"a TIFF of {page.samplesperpixel} samples of {page.bitspersample} bits "
        f"({'unknown' if kind is None else kind.name}), compression {compression}, photometric "
        f"{getattr(page.photometric, 'name', photometric)}"
    )
    if page.compression not in TIFF.DECOMPRESSORS:
        raise BadImage("wrong_type", f"{what}: this compression is not read: convert the file")
    colours = num_colours(page)
    if (
        kind is None
        or kind.kind not in "buif"
        or page.imagedepth != 1
        or page.samplesperpixel > MAX_SAMPLES
        or photometric not in (*GREY_OR_RGB, PALETTE, SEPARATED)
        or (photometric == PALETTE and (page.colormap is None or kind.kind != "u"))
        or (photometric == SEPARATED and (colours != 4 or kind != np.uint8))
        or (photometric == YCBCR and page.compression != JPEG)
        or (photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and colours > 3)
    ):
        raise BadImage(
            "wrong_type", f"{what}, expected grey or RGB of integers or floats: convert the file"
        )


def num_colours(page: TiffPage) -> int:
    """Return the number of samples of a pixel without alpha."""
    return page.samplesperpixel - has_alpha(page)


def has_alpha(page: TiffPage) -> bool:
    """Return whether the last sample of a pixel is alpha."""
    return bool(page.extrasamples) and int(page.extrasamples[-1]) in ALPHA and page.samplesperpixel > 1


def _check_segments(page: TiffPage, data: bytes) -> Mask | None:
    """Return which pixels lie in strips or tiles that are there, None where all do.

    Raises:
        BadImage: strips or tiles are missing, reach over the end of the file, or are cut.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    num_parts = math.prod(page.chunked)
    if min(len(offsets), len(counts)) < num_parts:
        raise BadImage(
            "truncated",
            f"{len(data)} bytes of TIFF that list {min(len(offsets), len(counts))} of {num_parts} strips "
            "or tiles, expected all: write the file again",
        )
    parts = list(zip(offsets[:num_parts], counts[:num_parts], strict=True))
    last = max(offset + count for offset, count in parts)
    if last > len(data):
        raise BadImage(
            "truncated",
            f"{len(data)} bytes of TIFF whose pixels end at byte {last}, expected the whole file: "
            "copy it again",
        )
    if page.compression == JPEG:
        _check_jpegs(page, [data[offset : offset + count] for offset, count in parts if count])
    there = np.array([count > 0 for _, count in parts])
    if there.all():
        return None
    planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
    rows, columns = block_shape(page)
    across, down = -(-page.imagewidth // columns), -(-page.imagelength // rows)
    blocks = there.reshape(planes, down, across).all(axis=0)
    return blocks.repeat(rows, axis=0).repeat(columns, axis=1)[: page.imagelength, : page.imagewidth]


def block_shape(page: TiffPage) -> tuple[int, int]:
    """Return height and width of the strips or tiles of a page, in pixels."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _check_jpegs(page: TiffPage, segments: list[bytes]) -> None:
    """Raise BadImage where a JPEG in a strip or tile is larger than that, or is cut between scans."""
    most = max(math.prod(page.chunks), 1)
    for segment in segments:
        scans = JpegScans(segment)
        if scans.width * scans.height > most:
            raise BadImage("unreadable", "a TIFF with a JPEG that is larger than its strip or tile")
        if scans.is_decoded and not scans.is_complete:
            raise BadImage("truncated", "a TIFF with a JPEG that ends before its image does")


def _valid(page: TiffPage, pages: list[TiffPage], samples: Pixels, sparse: Mask | None) -> Mask | None:
    masks = [] if sparse is None else [sparse]
    if (nodata := declared_nodata(page)) is not None:
        masks.append(is_data(samples[..., : num_colours(page)], nodata))
    for other in pages:
        same = (other.imagelength, other.imagewidth) == (page.imagelength, page.imagewidth)
        if int(other.subfiletype) & (MASK | REDUCED) == MASK and same:
            masks.append(np.asarray(other.asarray()).reshape(samples.shape[:2]) != 0)
    if not masks:
        return None
    valid: Mask = np.logical_and.reduce(masks)
    return None if valid.all() else valid


def is_data(samples: Pixels, nodata: float) -> Mask:
    """Return (H, W), False where all bands of (H, W, bands) samples are the value for no data."""
    # The number was written with fewer digits than a float has.
    marked: Mask = np.isclose(samples, nodata, rtol=1e-6, atol=0.0)
    return ~np.asarray(marked.all(axis=2))


def declared_nodata(page: TiffPage) -> float | None:
    """Return the number of GDAL_NODATA; None where there is none or it is none that pixels have."""
    tag = page.tags.get(GDAL_NODATA)
    try:
        value = float(str(tag.value).strip("\0 ")) if tag else math.nan
    except ValueError:
        return None
    if math.isnan(value):
        return None  # NaN has no data by itself
    return value


def _as_image(page: TiffPage, samples: Pixels) -> SourceImage:
    """Turn (H, W, samples) into grey or RGB of uint8, uint16 or float32."""
    values = values_of(page, samples)
    if has_alpha(page) and values.shape[2] in (2, 4) and values.dtype.kind == "u":
        return without_alpha(values)
    return SourceImage(_colours(page, values))


def values_of(page: TiffPage, samples: Pixels) -> Pixels:
    """Turn (H, W, samples) as they are stored into (H, W, bands) of uint8, uint16 or float32.

    Palettes and CMYK become one or three bands; the lowest value is black; bits are spread over a byte.
    """
    photometric, bits = int(page.photometric or 0), int(page.bitspersample)
    if photometric == PALETTE:
        rgb = palette_of(page)[samples[..., 0]]
        grey = bool((rgb == rgb[..., :1]).all())
        return rgb[..., :1] if grey else rgb
    if photometric == SEPARATED:
        ink = 255 - samples[..., :4].astype(np.uint16)
        return (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
    if samples.dtype.kind == "b":
        samples = samples.astype(np.uint8) * np.uint8(255)
    elif bits < 8:
        samples = (samples.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    if photometric == WHITE_IS_ZERO and samples.dtype.kind == "u":
        highest = 255 if bits < 8 else 2**bits - 1
        samples = samples.dtype.type(highest) - samples
    return as_read(samples)


def palette_of(page: TiffPage) -> Pixels:
    """Return the palette of a page, (entries, 3) uint8."""
    colours = np.asarray(page.colormap)
    deep = colours.max() > 255  # else written by a program that takes the entries for bytes
    return (colours >> 8 if deep else colours).astype(np.uint8).T


def as_read(samples: Pixels) -> Pixels:
    """Return samples of uint8 and uint16 as they are, of any other type as float32."""
    if samples.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return samples
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and so has no data
        return samples.astype(np.float32)


def _colours(page: TiffPage, samples: Pixels) -> Pixels:
    """Return (H, W) of one or two samples, (H, W, 3) of more."""
    few = samples.shape[2] < 3 or num_colours(page) < 3 and samples.shape[2] == page.samplesperpixel
    return np.ascontiguousarray(samples[..., 0] if few else samples[..., :3])
