"""URL to source: `open_source` finds out what a file is, and opens it so that windows can be read.

TIFFs go to GDAL where their pixels are too many to be decoded whole, where they lie on the earth (they
have a CRS), or where single bands are asked for; VRTs always do. Zarr arrays are read chunk by chunk. Any
other file is decoded whole by `frames.decode_image`. The content of a file decides what it is. A file of
at most WHOLE_BYTES is fetched whole and once, also where windows of it are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cluster.archive.reasons import BadImage
from cluster.archive.sources.bands import as_picture, check_bands
from cluster.archive.sources.frames import decode_image
from cluster.archive.sources.source import DecodedSource, Source, decoded, digest_of
from cluster.archive.sources.tiff import STARTS
from cluster.archive.sources.tiff_header import GEO_KEYS, read_header
from cluster.storage.ranges import FIRST_BYTES, RangeFile
from cluster.storage.urls import StorageError

VRT_START = b"<VRTDataset"
WHOLE_BYTES = 1 << 24
"""Largest file that is fetched whole though only windows of it are read."""
SIGNATURE_BYTES = 4096
"""Bytes at the beginning of a file that tell what it is."""


@contextmanager
def open_source(
    url: str,
    *,
    max_pixels: int,
    bands: Sequence[int] | None = None,
    temperatures: bool = False,
    expected_bytes: int = -1,
) -> Iterator[Source]:
    """Open an image file, a Zarr array or a pair of our own output to read windows of it.

    Args:
        url: of a file, of a Zarr array, or of a Zarr group that has an array `fused`.
        max_pixels: most pixels that are decoded whole, and most that a tile, a strip or a chunk may have.
        bands: numbers, from 1, of the one band or the three that are read; None for all that make the
            picture: grey, or red, green and blue.
        temperatures: whether a radiometric file gives its temperatures; see `frames.decode_image`.
        expected_bytes: size of the file as far as it is known before, so that one request to an object
            store suffices; -1 where it is not.

    Raises:
        BadImage: the file gives no image, or not the bands that were asked for.
        FileNotFoundError: there is none.
        StorageError: it can't be read.
    """
    first_bytes = WHOLE_BYTES if 0 <= expected_bytes <= WHOLE_BYTES else FIRST_BYTES
    try:
        file = RangeFile(url, first_bytes=first_bytes)
    except (FileNotFoundError, StorageError) as error:  # a folder is no file
        if isinstance(error, StorageError) and url.startswith(("s3://", "s3a://")):
            raise  # S3 has no folders
        from cluster.archive.sources.zarr_array import open_zarr

        array = open_zarr(url, max_pixels=max_pixels, bands=bands)
        if array is None:
            raise
        yield array
        return
    with file:
        digest = digest_of(file.keep_whole()) if file.size <= WHOLE_BYTES else ""
        start = file.read(SIGNATURE_BYTES)
        file.seek(0)
        # GDAL takes 32 MiB and half a second: only where it is needed
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(VRT_START):
            from cluster.archive.sources.vrt import open_vrt

            with open_vrt(file, max_pixels=max_pixels, bands=bands) as source:
                yield source
        elif start.startswith(STARTS) and _needs_gdal(file, max_pixels, bands):
            from cluster.archive.sources.geotiff import open_geotiff

            with open_geotiff(file, max_pixels=max_pixels, bands=bands, digest=digest) as source:
                yield source
        else:
            yield _decoded(file, max_pixels, bands, temperatures, digest)


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
    file: RangeFile, max_pixels: int, bands: Sequence[int] | None, temperatures: bool, digest: str
) -> DecodedSource:
    data = file.keep_whole()
    image = decode_image(data, max_pixels=max_pixels, temperatures=temperatures)
    height, width = image.pixels.shape[:2]
    num_bands = 1 if image.pixels.ndim == 2 else image.pixels.shape[2]
    if bands is not None:
        check_bands(file.url, num_bands, bands)
        chosen = image.pixels.reshape(height, width, -1)[..., [band - 1 for band in bands]]
        image = replace(image, pixels=as_picture(chosen))
    return decoded(
        image,
        file.url,
        num_bands=num_bands,
        etag=file.etag,
        digest=digest or digest_of(data),
        note=image.note,
        file_bytes=len(data),
    )
