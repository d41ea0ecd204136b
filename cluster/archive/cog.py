"""Fused images as Cloud Optimized GeoTIFFs (COG), written by windows: a scene need not fit into memory.

    array in the store -> tiled GeoTIFF in the temporary folder -> GDAL's COG driver -> one file

Deflate with a predictor, tiles of 512 x 512 and overviews are what every reader of TIFF knows: GDAL, QGIS
and ArcGIS open the file by ranges of bytes.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from cluster.archive.reasons import BadImage
from cluster.archive.sources.gdal_files import GDAL_OPTIONS
from cluster.archive.sources.source import Window, data_of
from cluster.archive.sources.zarr_array import ZarrSource
from cluster.storage.urls import StorageError

TILE = 512
"""Side of a tile of the file, in pixels."""
TRAILER_BYTES = 4
"""Bytes that GDAL's COG driver repeats after the last tile."""
TILED = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": TILE,
    "blockysize": TILE,
    "interleave": "pixel",
    "compress": "zstd",  # fast: the file lives for minutes
    "zstd_level": 1,
    "bigtiff": "IF_SAFER",
}
"""How the temporary GeoTIFF is stored."""
COG = {
    "driver": "COG",
    "compress": "DEFLATE",
    "predictor": "YES",
    "blocksize": TILE,
    "overview_resampling": "AVERAGE",
    "bigtiff": "IF_SAFER",
    "num_threads": 1,  # a task has one CPU
}
"""Options of GDAL's COG driver."""


def write_cog(source: ZarrSource, path: str) -> None:
    """Write an image as a COG to a local path; the same image gives the same bytes.

    Pixels stay as they are. Those without data get an internal mask, and CRS and transform are kept.
    Memory holds one window of whole chunks, at least 512 x 512 pixels, and GDAL's cache of 64 MB. The
    temporary folder needs room for the image's compressed pixels and their overviews, a third more; it is
    left empty.

    Args:
        source: grey or RGB, of uint8, uint16 or float32.
        path: of the file, replaced where it is there; of no use after an error.

    Raises:
        StorageError: the image can't be read, or a file can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="dmnet-cog-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        tiled = os.path.join(folder, "tiled.tif")
        options = {"CPL_TMPDIR": folder, "GDAL_TIFF_INTERNAL_MASK": True, "GDAL_NUM_THREADS": 1}
        try:
            with rasterio.Env(**GDAL_OPTIONS, **options):
                _write_tiled(source, tiled)
                rasterio.shutil.copy(tiled, path, **COG)
            _check_whole(path)
        except (BadImage, StorageError):
            raise
        except Exception as error:  # GDAL raises errors of many kinds where a disk is full
            said = " ".join(str(error).split())[:200]
            raise StorageError(
                f"the GeoTIFF can't be written ({type(error).__name__}: {said}), expected room for it in "
                f"{tempfile.gettempdir()!r} and at its place: make room, and run the same command again"
            ) from error


def windows_of(source: ZarrSource) -> Iterator[Window]:
    """Yield windows of whole chunks that cover an image once, row by row, none of less than a tile."""
    height, width = (side * -(-TILE // side) for side in source.chunk)
    for y in range(0, source.height, height):
        for x in range(0, source.width, width):
            yield Window(y, x, min(height, source.height - y), min(width, source.width - x))


def _write_tiled(source: ZarrSource, path: str) -> None:
    profile = TILED | {
        "height": source.height,
        "width": source.width,
        "count": 3 if source.is_colour else 1,
        "dtype": source.dtype,
        "photometric": "RGB" if source.is_colour else "MINISBLACK",
        "predictor": 3 if source.dtype == "float32" else 2,
    }
    if source.crs and source.transform:
        profile |= {"crs": source.crs, "transform": rasterio.Affine(*source.transform)}
    has_mask = False
    with rasterio.open(path, "w", **profile) as file:
        for window in windows_of(source):
            image = source.read(window)
            place = RasterioWindow(window.x, window.y, window.width, window.height)
            bands_first = np.moveaxis(np.atleast_3d(image.pixels), 2, 0)
            file.write(bands_first, window=place)
            has_data = data_of(image)
            if not has_mask and not has_data.all():
                file.write_mask(True)  # all windows before have data
                has_mask = True
            if has_mask:
                file.write_mask(has_data, window=place)


def _check_whole(path: str) -> None:
    """Raise OSError where a COG is cut short: GDAL does not say so of the last tiles."""
    with tifffile.TiffFile(path) as file:
        end = max(
            offset + size
            for page in file.pages
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
    size = os.path.getsize(path)
    if size != end + TRAILER_BYTES:
        raise OSError(f"{size} bytes were written of {end + TRAILER_BYTES}")
