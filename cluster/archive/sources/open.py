"""URL to source: `open_source` finds out what a file is, and opens it so that windows can be read.

TIFFs go to GDAL where their pixels are too many to be decoded whole, where they lie on the earth (they
have a CRS), or where single bands are asked for; VRTs always do. Zarr arrays are read chunk by chunk. Any
other file is decoded whole by `frames.decode_image`. The content of a file decides what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cluster.archive.reasons import BadImage
from cluster.archive.sources.bands import as_picture, check_bands
from cluster.archive.sources.frames import decode_image
from cluster.archive.sources.source import DecodedSource, Source
from cluster.archive.sources.tiff import STARTS
from cluster.archive.sources.tiff_header import GEO_KEYS, read_header
from cluster.storage.ranges import RangeFile
from cluster.storage.urls import StorageError

VRT_START = b"<VRTDataset"
SIGNATURE_BYTES = 4096
"""Bytes at the beginning of a file that tell what it is."""


@contextmanager
def open_source(
    url: str, *, max_pixels: int, bands: Sequence[int] | None = None, temperatures: bool = False
) -> Iterator[Source]:
    """Open an image file, a Zarr array or a pair of our own output to read windows of it.

    Args:
        url: of a file, of a Zarr array, or of a Zarr group that has an array `fused`.
        max_pixels: most pixels that are decoded whole, and most that a tile, a strip or a chunk may have.
        bands: numbers, from 1, of the one band or the three that are read; None for all that make the
            picture: grey, or red, green and blue.
        temperatures: whether a radiometric file gives its temperatures; see `frames.decode_image`.

    Raises:
        BadImage: the file gives no image, or not the bands that were asked for.
        FileNotFoundError: there is none.
        StorageError: it can't be read.
    """
    try:
        file = RangeFile(url)
    except (FileNotFoundError, StorageError):  # a folder is no file
        from cluster.archive.sources.zarr_array import open_zarr

        array = open_zarr(url, max_pixels=max_pixels, bands=bands)
        if array is None:
            raise
        yield array
        return
    with file:
        start = file.read(SIGNATURE_BYTES)
        file.seek(0)
        # GDAL takes 32 MiB and half a second: only where it is needed
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(VRT_START):
            from cluster.archive.sources.vrt import open_vrt

            with open_vrt(file, max_pixels=max_pixels, bands=bands) as source:
                yield source
        elif start.startswith(STARTS) and _needs_gdal(file, max_pixels, bands):
            from cluster.archive.sources.geotiff import open_geotiff

            with open_geotiff(file, max_pixels=max_pixels, bands=bands) as source:
                yield source
        else:
            yield _decoded(file, max_pixels, bands, temperatures)


def _needs_gdal(file: RangeFile, max_pixels: int, bands: Sequence[int] | None) -> bool:
    """Return whether a TIFF is read by GDAL; one whose header can't be read is not, and is refused so."""
    if bands is not None:
        return True
    try:
        page = read_header(file)
    except BadImage:
        return False
    finally:
        file.seek(0)
    return GEO_KEYS in page.tags or page.imagewidth * page.imagelength > max_pixels


def _decoded(
    file: RangeFile, max_pixels: int, bands: Sequence[int] | None, temperatures: bool
) -> DecodedSource:
    image = decode_image(file.read(), max_pixels=max_pixels, temperatures=temperatures)
    height, width = image.pixels.shape[:2]
    num_bands = 1 if image.pixels.ndim == 2 else image.pixels.shape[2]
    if bands is not None:
        check_bands(file.url, num_bands, bands)
        chosen = image.pixels.reshape(height, width, -1)[..., [band - 1 for band in bands]]
        image = replace(image, pixels=as_picture(chosen))
    return DecodedSource(
        url=file.url,
        height=height,
        width=width,
        num_bands=num_bands,
        dtype=image.pixels.dtype.name,
        is_colour=image.pixels.ndim == 3,
        etag=file.etag,
        image=image,
    )
