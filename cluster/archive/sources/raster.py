"""Windows of an image that GDAL reads: what GeoTIFFs and VRTs share.

GDAL gives the samples as they are stored. What they mean, and which have data, is decided as for a TIFF
that is decoded whole (`tiff.decode_tiff`), so that both ways give the same pixels and the same mask; but
for JPEG in a TIFF, whose colours at half the resolution the two libraries interpolate differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.enums import Interleaving, MaskFlags, Resampling
from rasterio.windows import Window as RasterioWindow

from cluster.archive.sources.bands import as_picture
from cluster.archive.sources.gdal_files import GdalFiles, call_gdal
from cluster.archive.sources.image import Mask, Pixels, SourceImage, is_mask
from cluster.archive.sources.source import (
    BLOCK_SIDE,
    Source,
    Window,
    blocks_of,
    read_in_blocks,
    read_reduced,
    reduction,
)
from cluster.archive.sources.tiff import as_read, is_data
from cluster.archive.sources.tiff_header import check_block
from cluster.storage.versions import digest_versions, versions_of

ALPHA_SAMPLES, ALPHA_SIDE = 8, 64
"""Samples along each axis by which it is told whether alpha is a mask, and the side of each in pixels."""

MAX_KNOWN = 256
"""Most files of which this process knows whether their alpha is a mask."""
_ALPHA_IS_MASK: dict[tuple[str, str, int], bool] = {}


@dataclass(kw_only=True)
class RasterSource(Source):
    """An image that is open in GDAL."""

    dataset: Any
    """rasterio's dataset."""
    files: GdalFiles
    """The files that it reads."""
    bands: tuple[int, ...]
    """Numbers of the bands that are read, from 1."""
    file_bytes: int
    """Size of the file in bytes."""
    values_of: Callable[[Pixels], Pixels] = as_read
    """Turns stored samples (H, W, bands) into (H, W, 1 or 3) of uint8, uint16 or float32."""
    alpha: int | None = None
    """Number of the band that is alpha; None where there is none."""
    stored_in: Callable[[Window, int], Mask | None] = lambda window, step: None
    """Which pixels of a window, reduced by a step, the file stores at all; None for all."""
    parts: tuple[str, ...] = ()
    """URLs of the files that a VRT names."""
    is_indexed: bool = False
    """Whether samples are entries of a palette, which have no mean."""

    @property
    def num_bytes(self) -> int:
        """Bytes fetched so far, of all files that the image is made of."""
        return self.files.num_fetched

    def parts_version(self) -> str:
        """Return a digest of the versions of the files that a VRT names; see `Source.parts_version`."""
        return digest_versions(versions_of(self.parts)) if self.parts else ""

    def overview(self, max_side: int) -> SourceImage:
        """Return the image reduced to at most `max_side`; see `Source.overview`.

        GDAL takes it of the file's own reduced images. Where there are none it would read a file several
        times over, and have a mean of one NaN be NaN.
        """
        step = reduction(self.height, self.width, max_side)
        if step == 1 or self.dataset.overviews(self.bands[0]):
            return self._image(self.whole, step)
        if self.dataset.block_shapes[0][1] < self.width:
            return read_in_blocks(self.read, self.whole, BLOCK_SIDE, step)
        return read_reduced(self, self.whole, step)

    def _read(self, window: Window) -> SourceImage:
        return self._image(window, 1)

    def _image(self, window: Window, step: int) -> SourceImage:
        image: SourceImage = call_gdal(
            self.files, self.file_bytes, lambda: self._read_by_gdal(window, step)
        )
        return image

    def _read_by_gdal(self, window: Window, step: int) -> SourceImage:
        shape = (-(-window.height // step), -(-window.width // step))
        request: dict[str, Any] = {
            "window": RasterioWindow(window.x, window.y, window.width, window.height),
            "out_shape": shape,
        }
        nearest = step == 1 or self.is_indexed
        resampling = Resampling.nearest if nearest else Resampling.average
        bands_first = self.dataset.read(
            list(self.bands), **request | {"out_shape": (len(self.bands), *shape)}, resampling=resampling
        )
        samples = np.moveaxis(bands_first, 0, 2)
        masks = [self.stored_in(window, step)]
        if self.nodata is not None:
            masks.append(is_data(samples, self.nodata))
        flags = self.dataset.mask_flag_enums[self.bands[0] - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            masks.append(self.dataset.read_masks(self.bands[0], **request) != 0)
        if self.alpha is not None and self._uses_alpha():
            masks.append(self.dataset.read(self.alpha, **request) != 0)
        there = [mask for mask in masks if mask is not None]
        valid = np.logical_and.reduce(there) if there else None
        values = self.values_of(samples)
        if self.is_colour and values.shape[2] == 1:  # a part of a coloured palette
            values = np.repeat(values, 3, axis=2)
        return SourceImage(as_picture(values), None if valid is None or valid.all() else valid)

    def _uses_alpha(self) -> bool:
        """Return whether alpha says where data are; see `is_mask`. It is told once for each file."""
        file = (self.url, self.etag, self.file_bytes)
        if file not in _ALPHA_IS_MASK:
            if len(_ALPHA_IS_MASK) >= MAX_KNOWN:
                _ALPHA_IS_MASK.clear()
            _ALPHA_IS_MASK[file] = self._alpha_is_mask()
        return _ALPHA_IS_MASK[file]

    def _alpha_is_mask(self) -> bool:
        """Tell by samples all over the image, between which anything may be opaque or transparent."""
        side = min(ALPHA_SIDE, self.height, self.width)
        places = np.linspace(0, 1, ALPHA_SAMPLES)
        last_y, last_x = self.height - side, self.width - side
        samples = [
            self._alpha_of(Window(int(y * last_y), int(x * last_x), side, side))
            for y in places
            for x in places
        ]
        alpha = np.stack(samples)
        if not alpha.any():
            return any(self._alpha_of(block).any() for block in blocks_of(self.whole, BLOCK_SIDE))
        return is_mask(alpha) or bool((alpha == np.iinfo(alpha.dtype.name).max).all())

    def _alpha_of(self, window: Window) -> Pixels:
        where = RasterioWindow(window.x, window.y, window.width, window.height)
        alpha: Pixels = self.dataset.read(self.alpha, window=where)
        return alpha


def what_is_where(dataset: Any) -> dict[str, Any]:
    """Return size, crs and transform of an open dataset, as fields of a source."""
    return {
        "height": dataset.height,
        "width": dataset.width,
        "num_bands": dataset.count,
        "crs": dataset.crs.to_wkt() if dataset.crs else "",
        "transform": None if dataset.transform.is_identity else tuple(dataset.transform)[:6],
    }


def check_blocks(dataset: Any, max_pixels: int) -> None:
    """Raise BadImage where no window can be read without reading more than max_pixels."""
    height, width = map(max, zip(*dataset.block_shapes, strict=True))
    bands = 1 if dataset.interleaving == Interleaving.band else dataset.count
    check_block("an image", height, width, bands, max_pixels)
