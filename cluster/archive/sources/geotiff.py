"""GeoTIFFs, COGs and BigTIFFs by windows: GDAL reads only the tiles and strips that a window needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from tifffile import TiffPage

from cluster.archive.sources.bands import check_bands
from cluster.archive.sources.gdal_files import GdalFiles, call_gdal
from cluster.archive.sources.image import Mask, Pixels
from cluster.archive.sources.raster import RasterSource, check_blocks, what_is_where
from cluster.archive.sources.source import Window
from cluster.archive.sources.tiff import (
    PALETTE,
    SEPARATED,
    as_read,
    block_shape,
    check_layout,
    declared_nodata,
    has_alpha,
    num_colours,
    palette_of,
    values_of,
)
from cluster.archive.sources.tiff_header import read_header
from cluster.storage.ranges import RangeFile

NAME = "image/image.tif"
"""What GDAL calls the file."""


@contextmanager
def open_geotiff(
    file: RangeFile, *, max_pixels: int, bands: Sequence[int] | None, digest: str = ""
) -> Iterator[RasterSource]:
    """Open a TIFF by GDAL; `digest` is that of its bytes, the rest as of `open.open_source`."""
    page = read_header(file)
    if bands is None:
        check_layout(page)
    files = GdalFiles({NAME: file}, max_pixels)
    dataset = call_gdal(files, file.size, lambda: rasterio.open(NAME, driver="GTiff", opener=files))
    try:
        check_blocks(dataset, max_pixels)
        yield RasterSource(
            **what_is_where(dataset),
            **_samples(file.url, page, dataset, bands),
            url=file.url,
            etag=file.etag,
            digest=digest,
            nodata=declared_nodata(page),
            dataset=dataset,
            files=files,
            file_bytes=file.size,
        )
    finally:
        dataset.close()


def _samples(url: str, page: TiffPage, dataset: Any, bands: Sequence[int] | None) -> dict[str, Any]:
    """Return the fields of a source that say which samples are read, and what they mean."""
    photometric = int(page.photometric or 0)
    alpha = dataset.count if has_alpha(page) else None
    is_indexed = bands is None and photometric == PALETTE
    convert: Callable[[Pixels], Pixels] = partial(values_of, page)
    if bands is not None:
        check_bands(url, dataset.count, bands)
        read = tuple(bands)
        if photometric in (PALETTE, SEPARATED):
            convert = as_read
        if alpha in read:
            alpha = None
    elif photometric == SEPARATED and dataset.colorinterp[0] == ColorInterp.red:
        read, convert = (1, 2, 3), as_read  # GDAL has turned CMYK into RGB
    elif photometric == SEPARATED:
        read = (1, 2, 3, 4)
    else:  # a fourth band is not shown, but the value for no data must be in all
        read = tuple(range(1, num_colours(page) + 1))
    kind = np.dtype(dataset.dtypes[read[0] - 1])
    values = convert(np.zeros((1, 1, len(read)), kind))
    is_colour = values.shape[2] >= 3
    if is_indexed:
        palette = palette_of(page)
        is_colour = bool((palette != palette[:, :1]).any())
    return {
        "dtype": values.dtype.name,
        "is_colour": is_colour,
        "bands": read,
        "values_of": convert,
        "alpha": alpha if kind in (np.uint8, np.uint16) else None,
        "is_indexed": is_indexed,
        "stored_in": partial(_stored_in, page, dataset, read),
    }


def _stored_in(
    page: TiffPage, dataset: Any, bands: Sequence[int], window: Window, step: int
) -> Mask | None:
    """Return which pixels of a window lie in strips or tiles that are stored; None for all."""
    is_planar = int(page.planarconfig) == 2 and page.samplesperpixel > 1
    planes = [band - 1 for band in bands] if is_planar else [0]
    rows, columns = block_shape(page)
    down = range(window.y // rows, -(-(window.y + window.height) // rows))
    across = range(window.x // columns, -(-(window.x + window.width) // columns))
    is_there: Pixels = np.empty((len(down), len(across)), np.bool_)
    for i, row in enumerate(down):
        for j, column in enumerate(across):
            is_there[i, j] = _is_stored(page, dataset, planes, row, column)
    if is_there.all():
        return None
    y = (np.arange(window.y, window.y + window.height, step) // rows) - down.start
    x = (np.arange(window.x, window.x + window.width, step) // columns) - across.start
    mask: Mask = is_there[np.ix_(y, x)]
    return mask


def _is_stored(page: TiffPage, dataset: Any, planes: Sequence[int], row: int, column: int) -> bool:
    if page.is_tiled:  # asked of GDAL, which reads only the part of the list that it needs
        name = f"BLOCK_OFFSET_{column}_{row}"
        return all(dataset.get_tag_item(name, "TIFF", bidx=plane + 1) is not None for plane in planes)
    strips = -(-page.imagelength // page.rowsperstrip)
    return all(page.databytecounts[plane * strips + row] > 0 for plane in planes)
