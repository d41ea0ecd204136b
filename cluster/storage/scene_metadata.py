"""The metadata of a scene in the store, as objects: Zarr v3, CF, GeoZarr, and Zarr v2 for GDAL.

CF (`spatial_ref`, `grid_mapping`, `x` and `y`) is what xarray, rioxarray and GDAL before 3.13 read;
GeoZarr's conventions (`proj:`, `spatial:`, `multiscales`) are what later ones do. GDAL before 3.11 opens
the folder of the chunks as an array of Zarr v2, whose CRS is its attribute `_CRS` and whose geotransform
comes from the arrays `x` and `y` beside that folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore
from zarr_cm import multiscales, proj, spatial

from cluster.storage.array_objects import add_array, encode_chunk, gdal_view
from cluster.storage.fused_store import VALID_ATTRIBUTES
from cluster.storage.pair_files import FUSED, OVERVIEWS, VALID
from cluster.storage.scene_layout import SceneLayout

WKT1 = ("PROJCS[", "GEOGCS[", "GEOCCS[", "COMPD_CS[", "LOCAL_CS[", "VERT_CS[", "FITTED_CS[")
"""How WKT of version 1 begins, which GeoZarr does not know."""
GEOGRAPHIC = ("GEOGCS[", "GEOGCRS[", "GEODCRS[", "GEOGRAPHICCRS[", "GEODETICCRS[")
"""How the WKT of a CRS of longitude and latitude begins."""
SPATIAL_REF = "spatial_ref"


class _Image(NamedTuple):
    """One of the two arrays of pixels of a size."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dimensions: tuple[str, ...]
    dtype: np.dtype[np.generic]
    attributes: Mapping[str, Any]


def scene_objects(layout: SceneLayout, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the metadata and coordinates of a scene and its overviews, by key below its group.

    Args:
        layout: the arrays of the scene.
        attributes: attributes of the scene's group, beside which it gets those of GeoZarr.
    """
    levels = layout.overviews()
    encoded = _level_objects(layout, _with_sizes(layout, attributes))
    if levels:
        encoded[f"{OVERVIEWS}/zarr.json"] = _json(
            {"zarr_format": 3, "node_type": "group", "attributes": {}}
        )
    for reduction, level in levels.items():
        below = _level_objects(level, {})
        encoded |= {f"{OVERVIEWS}/{reduction}/{key}": value for key, value in below.items()}
    return encoded


@lru_cache(maxsize=64)
def image_metadata(layout: SceneLayout) -> dict[str, bytes]:
    """Return the zarr.json of `fused` and of `valid`, by the name of the array."""
    stored: dict[str, Buffer] = {}
    _add_images(zarr.create_group(MemoryStore(stored)), layout)
    return {name: stored[f"{name}/zarr.json"].to_bytes() for name in (FUSED, VALID)}


def _level_objects(layout: SceneLayout, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what the group of one size has, apart from chunks of pixels and flags."""
    stored: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(stored), attributes=_placed(layout, attributes, layout.bounds))
    _add_images(group, layout)
    coordinates = _coordinates(layout)
    for axis, (values, said) in coordinates.items():
        array = add_array(
            group, axis, values.shape, values.dtype, chunks=values.shape, dimensions=(axis,),
            attributes=said,
        )  # fmt: skip
        array[:] = values
    if layout.is_georeferenced:
        reference = add_array(
            group, SPATIAL_REF, (), np.dtype(np.int64), chunks=(), dimensions=(),
            attributes=_grid_mapping(layout),
        )  # fmt: skip
        reference[...] = 0
    encoded = {key: value.to_bytes() for key, value in stored.items()}
    for image in _images(layout):
        encoded |= _gdal_objects(layout, image, coordinates)
    return encoded


def _images(layout: SceneLayout) -> tuple[_Image, _Image]:
    """Return the arrays `fused` and `valid`."""
    return (
        _Image(
            FUSED, layout.shape, layout.chunks, layout.dimensions, layout.pixel_type,
            {"ancillary_variables": VALID},
        ),
        _Image(
            VALID, layout.shape[-2:], layout.chunks[-2:], layout.dimensions[-2:], np.dtype(np.uint8),
            VALID_ATTRIBUTES,
        ),
    )  # fmt: skip


def _add_images(group: zarr.Group, layout: SceneLayout) -> None:
    # `coordinates` too, or xarray takes `spatial_ref` for an image unless it is told decode_coords="all".
    names = ("grid_mapping", "coordinates") if layout.is_georeferenced else ()
    mapped = dict.fromkeys(names, SPATIAL_REF)
    for image in _images(layout):
        add_array(
            group, image.name, image.shape, image.dtype, chunks=image.chunks,
            dimensions=image.dimensions, attributes=_placed(layout, {**image.attributes, **mapped}),
        )  # fmt: skip


def _gdal_objects(
    layout: SceneLayout,
    image: _Image,
    coordinates: Mapping[str, tuple[NDArray[np.float64], dict[str, str]]],
) -> dict[str, bytes]:
    """Return the metadata and the coordinates of Zarr v2 with which GDAL opens the chunks of an image."""
    crs = {"_CRS": {"wkt": layout.crs_wkt}} if layout.is_georeferenced else {}
    encoded = {
        f"{image.name}/c/.zarray": gdal_view(image.shape, image.chunks, image.dtype),
        f"{image.name}/c/.zattrs": _json({"_ARRAY_DIMENSIONS": image.dimensions, **crs}),
    }
    for axis, (values, _) in coordinates.items():
        encoded |= {
            f"{image.name}/{axis}/.zarray": gdal_view(values.shape, values.shape, values.dtype),
            f"{image.name}/{axis}/.zattrs": _json({"_ARRAY_DIMENSIONS": [axis]}),
            f"{image.name}/{axis}/0": encode_chunk(values),
        }
    return encoded


def _coordinates(
    layout: SceneLayout,
) -> dict[str, tuple[NDArray[np.float64], dict[str, str]]]:
    """Return values at the centres of pixels and attributes of y and x; none where the grid is turned."""
    if not layout.is_georeferenced or layout.transform is None:
        return {}
    a, b, c, d, e, f = layout.transform
    if b or d:
        return {}
    names = ("projection_y_coordinate", "projection_x_coordinate")
    units: tuple[str, ...] = ()
    if layout.crs_wkt.lstrip().upper().startswith(GEOGRAPHIC):
        names, units = ("latitude", "longitude"), ("degrees_north", "degrees_east")
    values = (
        f + e * (np.arange(layout.height) + 0.5),
        c + a * (np.arange(layout.width) + 0.5),
    )
    found: dict[str, tuple[NDArray[np.float64], dict[str, str]]] = {}
    for number, axis in enumerate(("y", "x")):
        said = {"standard_name": names[number], "axis": axis.upper()}
        if units:
            said["units"] = units[number]
        found[axis] = values[number].astype(np.float64), said
    return found


def _grid_mapping(layout: SceneLayout) -> dict[str, str]:
    assert layout.transform is not None
    a, b, c, d, e, f = layout.transform
    return {
        "crs_wkt": layout.crs_wkt,
        "spatial_ref": layout.crs_wkt,
        "GeoTransform": " ".join(map(repr, map(float, (c, a, b, f, d, e)))),
    }


def _placed(
    layout: SceneLayout,
    attributes: Mapping[str, Any],
    bounds: tuple[float, float, float, float] | None = None,
) -> dict[str, Any]:
    """Return attributes with GeoZarr's, which say where a group or an array lies, where that is known."""
    if not layout.is_georeferenced or layout.transform is None:
        return dict(attributes)
    place = spatial.create(
        dimensions=["y", "x"],
        bbox=None if bounds is None else list(bounds),
        transform_type="affine",
        transform=list(map(float, layout.transform)),
        shape=[layout.height, layout.width],
        registration="pixel",
    )
    placed = spatial.insert(attributes, place)
    is_wkt2 = not layout.crs_wkt.lstrip().upper().startswith(WKT1)
    if is_wkt2 or layout.crs_code:
        wkt2 = layout.crs_wkt if is_wkt2 else None
        placed = proj.insert(placed, proj.create(code=layout.crs_code or None, wkt2=wkt2))
    return dict(placed)


def _with_sizes(layout: SceneLayout, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with GeoZarr's list of a scene's sizes, where there are several."""
    levels = layout.overviews()
    if not levels:
        return dict(attributes)
    before = FUSED
    entries: list[Any] = [{"asset": before, **_absolute(layout)}]
    bands = layout.dimensions[:-2]
    for reduction, level in levels.items():
        asset = f"{OVERVIEWS}/{reduction}/{FUSED}"
        scale = [*[1.0 for _ in bands], 2.0, 2.0]
        entries.append(
            {
                "asset": asset,
                "derived_from": before,
                "transform": {"scale": scale, "translation": [0.0] * len(scale)},
                **_absolute(level),
            }
        )
        before = asset
    sizes = multiscales.create(layout=entries, resampling_method="average")
    return dict(multiscales.insert(attributes, sizes))


def _absolute(layout: SceneLayout) -> dict[str, Any]:
    place = {"spatial:transform": list(map(float, layout.transform))} if layout.transform else {}
    return {"spatial:shape": [layout.height, layout.width], **place}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
