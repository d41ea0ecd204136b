"""Zarr arrays by windows: any array of rows and columns, and the fused images of our own output.

An array is (y, x), (y, x, band) or (band, y, x). Its attributes say where it lies on the earth: GeoZarr's
`proj:` and `spatial:`, or CF's variable `spatial_ref` beside it.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.archive.reasons import BadImage
from cluster.archive.sources.bands import as_picture, check_bands, picture_bands
from cluster.archive.sources.image import Mask, Pixels, SourceImage, check_pixels
from cluster.archive.sources.source import BLOCK_SIDE, Source, Window, read_in_blocks, reduction
from cluster.archive.sources.tiff import as_read, is_data
from cluster.storage.arrays import StoredArray, array_versions, open_array
from cluster.storage.urls import join_url, redact_url
from cluster.storage.versions import digest_versions

ROWS = frozenset({"y", "row", "rows", "lat", "latitude", "height", "northing"})
COLUMNS = frozenset({"x", "column", "columns", "col", "lon", "longitude", "width", "easting"})
SPATIAL_REF = "spatial_ref"
"""Array whose attributes say, by CF, where others lie on the earth."""
FUSED, VALID = "fused", "valid"
"""Arrays of a pair in our own output."""
MAX_BANDS_UNNAMED = 16
"""Longest dimension that is taken for bands where the dimensions have no names."""
Transform = tuple[float, float, float, float, float, float]


@dataclass(kw_only=True)
class ZarrSource(Source):
    """A Zarr array."""

    array: StoredArray
    """The array itself."""
    band_axis: int | None
    """Dimension of the bands, 0 or 2; None where there is none."""
    bands: tuple[int, ...]
    """Numbers of the bands that are read, from 1."""
    valid: StoredArray | None
    """Array (y, x) of flags, 0 where the image has no data; None where there is none."""
    beside: tuple[str, ...]
    """URLs of the arrays beside it that say what the pixels are: flags, and the place on the earth."""
    _num_bytes: int = field(default=0, init=False)

    @property
    def num_bytes(self) -> int:
        """Bytes of the pixels that were read so far: zarr does not tell how many it fetched for them."""
        return self._num_bytes

    @property
    def chunk(self) -> tuple[int, int]:
        """Numbers of rows and columns that are read at least."""
        height, width = _without(self.band_axis, self.array.chunks)
        return height, width

    def parts_version(self) -> str:
        """Return a digest of the versions of all objects; see `Source.parts_version`."""
        return digest_versions(
            f"{number}/{version}"
            for number, url in enumerate((self.array.url, *self.beside))
            for version in array_versions(url)
        )

    def overview(self, max_side: int) -> SourceImage:
        """Return the image reduced to at most `max_side`; see `Source.overview`."""
        side = max(BLOCK_SIDE, *self.chunk)
        return read_in_blocks(self.read, self.whole, side, reduction(self.height, self.width, max_side))

    def _read(self, window: Window) -> SourceImage:
        place = (
            slice(window.y, window.y + window.height),
            slice(window.x, window.x + window.width),
        )
        samples = self._samples(place)
        self._num_bytes += samples.nbytes
        masks: list[Mask] = []
        if self.nodata is not None:
            masks.append(is_data(samples, self.nodata))
        if self.valid is not None:
            flags = self.valid.read(place)
            self._num_bytes += flags.nbytes
            masks.append(flags != 0)
        valid = np.logical_and.reduce(masks) if masks else None
        return SourceImage(
            as_picture(as_read(samples)), None if valid is None or valid.all() else valid
        )

    def _samples(self, place: tuple[slice, slice]) -> Pixels:
        """Return (H, W, bands) as they are stored."""
        if self.band_axis is None:
            return self.array.read(place)[..., None]
        chosen = [band - 1 for band in self.bands]
        span = slice(min(chosen), max(chosen) + 1)
        if self.band_axis == 0:
            found = np.moveaxis(self.array.read((span, *place)), 0, 2)
        else:
            found = self.array.read((*place, span))
        return found[..., [band - span.start for band in chosen]]


def open_zarr(url: str, *, max_pixels: int, bands: Sequence[int] | None) -> ZarrSource | None:
    """Return an array, or the array `fused` of a group, as a source; None where there is no Zarr.

    Args:
        url: of the array or the group.
        max_pixels: most pixels that a chunk may have.
        bands: as of `open.open_source`.

    Raises:
        BadImage: it is no image of one to some bands.
        StorageError: it can't be read.
    """
    array = open_array(url)
    if isinstance(array, dict):
        array = open_array(join_url(url, FUSED))
        if not isinstance(array, StoredArray):
            raise BadImage(
                "wrong_type",
                f"{redact_url(url)!r} is a Zarr group without an array {FUSED!r}, expected an array: "
                "give the URL of one of its arrays",
            )
    if array is None:
        return None
    band_axis = _band_axis(array)
    shape, chunk = _without(band_axis, array.shape), _without(band_axis, array.chunks)
    check_pixels(min(chunk[1], shape[1]), min(chunk[0], shape[0]), max_pixels)
    num_bands = 1 if band_axis is None else array.shape[band_axis]
    if bands is None:
        read = picture_bands(array.url, num_bands, False)
    else:
        check_bands(array.url, num_bands, bands)
        read = tuple(bands)
    folder = array.url.rstrip("/").rpartition("/")[0]
    named = array.attributes.get("ancillary_variables")
    valid_url = join_url(folder, VALID)
    valid = open_array(valid_url) if named == VALID else None
    crs, transform = _where(array, folder)
    return ZarrSource(
        url=url,
        height=shape[0],
        width=shape[1],
        num_bands=num_bands,
        dtype=as_read(np.zeros(1, array.dtype)).dtype.name,
        is_colour=len(read) == 3,
        crs=crs,
        transform=transform,
        nodata=_nodata(array.attributes),
        array=array,
        band_axis=band_axis,
        bands=read,
        valid=valid if isinstance(valid, StoredArray) else None,
        beside=(*([valid_url] if named == VALID else []), join_url(folder, SPATIAL_REF)),
    )


def _without(band_axis: int | None, sides: tuple[int, ...]) -> list[int]:
    """Return the sides of an array along its rows and its columns."""
    return [side for axis, side in enumerate(sides) if axis != band_axis]


def _band_axis(array: StoredArray) -> int | None:
    """Return which dimension is that of the bands, 0 or 2, None of a (y, x) array."""
    names = [name.lower() for name in array.dimensions]
    for band_axis in (None, 0, 2):
        axes = [axis for axis in range(len(array.shape)) if axis != band_axis]
        if array.dtype.kind not in "buif" or min(array.shape, default=0) < 1:
            break
        if len(axes) != 2 or (band_axis is not None and len(array.shape) != 3):
            continue
        if names and names[axes[0]] in ROWS and names[axes[1]] in COLUMNS:
            return band_axis
        if not names and (band_axis is None or array.shape[band_axis] <= MAX_BANDS_UNNAMED):
            return band_axis
    raise BadImage(
        "wrong_type",
        f"{redact_url(array.url)!r} is a Zarr array of {array.dtype} with the shape {array.shape} and "
        f"dimensions {array.dimensions or 'without names'}, expected numbers of (y, x), (y, x, band) or "
        "(band, y, x): give the URL of an image",
    )


def _nodata(attributes: dict[str, Any]) -> float | None:
    """Return the value for no data that CF's attributes declare; NaN has no data by itself."""
    for name in ("_FillValue", "missing_value"):
        value = attributes.get(name)
        number = math.nan
        with suppress(TypeError, ValueError):
            number = float(value)  # type: ignore[arg-type]
        if math.isnan(number) and isinstance(value, str):  # as xarray writes floats
            with suppress(ValueError, struct.error):
                (number,) = struct.unpack("<d", base64.b64decode(value, validate=True))
        if not math.isnan(number):
            return number
    return None


def _where(array: StoredArray, folder_url: str) -> tuple[str, Transform | None]:
    """Return crs, as WKT, and transform of an array: of its own attributes, else of its grid mapping."""
    attributes = array.attributes
    crs = attributes.get("proj:wkt2") or attributes.get("proj:code") or ""
    numbers: Sequence[Any] | None = attributes.get("spatial:transform")
    if not (crs and numbers):
        mapping = str(attributes.get("grid_mapping") or attributes.get("coordinates") or "")
        if SPATIAL_REF not in mapping.split():
            return "", None
        found = open_array(join_url(folder_url, SPATIAL_REF))
        said = found.attributes if isinstance(found, StoredArray) else {}
        crs = said.get("crs_wkt") or said.get(SPATIAL_REF) or ""
        said_numbers = (str(said.get("GeoTransform", "")).split() + [""] * 6)[:6]
        numbers = [said_numbers[place] for place in (1, 2, 0, 4, 5, 3)]
    from rasterio.crs import CRS  # only an array that lies on the earth needs GDAL

    try:
        a, b, c, d, e, f = map(float, numbers[:6])
        return CRS.from_user_input(str(crs)).to_wkt(), (a, b, c, d, e, f)
    except (ValueError, TypeError) as error:
        raise BadImage(
            "unreadable",
            f"{redact_url(array.url)!r} has a CRS or a transform that can't be read ({error}), expected "
            "WKT or EPSG:<number>, and six numbers: correct the attributes",
        ) from error
