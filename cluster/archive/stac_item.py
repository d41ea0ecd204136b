"""The STAC item of a fused pair that lies on the earth: footprint, projection, metrics and sources.

Last in the flow: `cluster.storage.stac_table` stores the items, and `cluster.archive.stac` reads them, so
that a fused archive may be indexed as any other. The footprint is that of the whole image, also where a
part of its pixels has no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.storage import urls
from cluster.storage.stac_table import PackagesMissing
from cluster.text.plain_text import one_line

ASSET = "fused"
"""Key of the asset that is the Zarr group of the fused image."""
SEGMENTS = 8
"""Pieces of the longer sides of a footprint: a straight line of one map is bent on another. One side of
100 km in UTM is off by less than 10 m, and shorter ones by the square of their length less."""

Item = dict[str, Any]


def stac_item(
    pair_id: str,
    *,
    zarr_path: str,
    store_url: str,
    crs: str,
    transform: Sequence[float],
    height: int,
    width: int,
    num_bands: int,
    dtype: str,
    valid_share: float | None,
    ir_url: str,
    vis_url: str,
    moment: datetime | str | None,
    fused_at: datetime,
    metrics: Mapping[str, float | None],
    fingerprint: str,
) -> Item:
    """Return a STAC item as it is written as JSON.

    Args:
        pair_id: id of the item.
        zarr_path: group of the pair below the store.
        store_url: URL of the store fused.zarr, as readers of the item reach it.
        crs: coordinate reference system as a code like EPSG:32632, or as WKT of any version.
        transform: (a, b, c, d, e, f) of `Source.transform`.
        height: rows of the fused image.
        width: columns of the fused image.
        num_bands: 1 for a grey image, 3 for colour.
        dtype: uint8, uint16 or float32.
        valid_share: share of the pixels with data, from 0 to 1.
        ir_url: URL of the infrared source.
        vis_url: URL of the visible source.
        moment: when the images were taken: text in ISO 8601, or a time, which is in UTC where it names
            no zone. STAC wants some time, so `fused_at` stands in for what is None or no such time, and
            the property `dmnet:datetime_is` says which of the two it is: `acquired` or `fused`.
        fused_at: when the pair was fused; the item's `created`.
        metrics: values of the metrics by their names.
        fingerprint: fingerprint that the pair was fused under.

    Raises:
        ValueError: the image has no place on the earth by that CRS and transform.
        PackagesMissing: the packages for STAC are not installed.
    """
    try:
        import pystac
    except ImportError as error:
        raise PackagesMissing(error) from error

    geometry, bbox = footprint(crs, transform, height, width)
    taken = as_moment(moment)
    properties = {
        "created": pystac.utils.datetime_to_str(fused_at),
        "dmnet:datetime_is": "acquired" if taken else "fused",
        **{"dmnet:fingerprint": fingerprint, "dmnet:zarr_path": zarr_path},
        **_numbers({**metrics, "valid_share": valid_share}),
    }
    item = pystac.Item(pair_id, geometry, bbox, taken or fused_at, properties)
    _place(item, crs, transform, height, width)
    item.add_asset(ASSET, _asset(urls.join_url(store_url, zarr_path), num_bands, dtype))
    for title, url in (("Infrared image", ir_url), ("Visible image", vis_url)):
        item.add_link(pystac.Link("derived_from", urls.redact_url(url), title=title))
    return item.to_dict(include_self_link=False)


def _place(item: Any, crs: str, transform: Sequence[float], height: int, width: int) -> None:
    """Give an item the properties of STAC's projection extension."""
    from pystac.extensions.projection import ProjectionExtension

    is_code = crs.startswith("EPSG:")
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=crs if is_code else None,
        wkt2=None if is_code else _wkt2(crs),
        shape=[height, width],
        transform=[float(number) for number in transform],
    )


def _asset(url: str, num_bands: int, dtype: str) -> Any:
    import pystac

    names = ("red", "green", "blue") if num_bands == 3 else ("grey",)
    return pystac.Asset(
        href=urls.redact_url(url),
        title="Infrared and visible image, fused",
        media_type=pystac.MediaType.ZARR,
        roles=["data"],
        extra_fields={"data_type": dtype, "bands": [{"name": name} for name in names]},
    )


def footprint(
    crs: str, transform: Sequence[float], height: int, width: int
) -> tuple[dict[str, Any], list[float]]:
    """Return where an image lies, in longitude and latitude of WGS 84, and the box around it.

    An image across the antimeridian is a polygon on either side of it, and its box goes from a larger
    longitude in the west to a smaller one in the east, as GeoJSON has it.

    Args:
        crs: coordinate reference system as a code like EPSG:32632, or as WKT.
        transform: (a, b, c, d, e, f) of `Source.transform`.
        height: rows of the image.
        width: columns of the image.

    Returns:
        A GeoJSON Polygon or MultiPolygon whose outer rings go counter-clockwise, and the box as west,
        south, east, north, all in degrees.

    Raises:
        ValueError: the image has no place on the earth by that CRS and transform.
        PackagesMissing: the packages for STAC are not installed.
    """
    try:
        import shapely
        from shapely.affinity import affine_transform
        from shapely.geometry import mapping, shape
    except ImportError as error:
        raise PackagesMissing(error) from error
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom

    numbers = tuple(float(number) for number in transform)
    problem = "its corners have no longitude and latitude"
    place = shapely.Polygon()
    if all(map(math.isfinite, numbers)):
        a, b, c, d, e, f = numbers
        pixels = shapely.segmentize(shapely.box(0, 0, width, height), max(height, width) / SEGMENTS)
        on_map = mapping(affine_transform(pixels, [a, b, d, e, c, f]))
        try:
            known = CRS.from_string(crs)
            place = shape(transform_geom(known, "EPSG:4326", on_map, antimeridian_cutting=True))
        except Exception as error:  # GDAL's errors share no base
            problem = one_line(error)[:200]
    if not (all(map(math.isfinite, place.bounds)) and place.area):
        raise ValueError(
            f"an image of {height} x {width} px (height x width) with the transform {numbers} has no "
            f"place on the earth ({problem}), expected a CRS of the earth and a transform of it: correct "
            "the file's georeference"
        )
    place = shapely.orient_polygons(_between_180(place))
    return mapping(place), _box(place)


def _between_180(place: Any) -> Any:
    """Return a polygon in longitudes from -180 to 180, of one that may reach beyond, as from 0 to 360."""
    import shapely
    from shapely.affinity import translate

    if -180 <= place.bounds[0] and place.bounds[2] <= 180:
        return place
    world = shapely.box(-180, -90, 180, 90)
    parts = [translate(place, shift).intersection(world) for shift in (-360, 0, 360)]
    return shapely.union_all([part for part in parts if part.area])


def as_moment(value: datetime | str | None) -> datetime | None:
    """Return a time in UTC; None for none, for pandas' NaT and for a text that is no time."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value != value:
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:  # in the first or the last hours that Python knows
        return None


def _box(place: Any) -> list[float]:
    """Return west, south, east and north of a polygon, which may be in parts beside the antimeridian."""
    west, south, east, north = place.bounds
    if place.geom_type == "MultiPolygon" and west == -180 and east == 180:
        parts = [part.bounds for part in place.geoms]
        west = min(bounds[0] for bounds in parts if bounds[0] > -180)
        east = max(bounds[2] for bounds in parts if bounds[2] < 180)
    return [west, south, east, north]


def _wkt2(wkt: str) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_wkt(wkt).to_wkt(version="WKT2_2019"))


def _numbers(measured: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return numbers as properties in JSON, which knows neither NaN nor infinity."""
    return {
        f"dmnet:{name}": None if value is None or not math.isfinite(value) else float(value)
        for name, value in measured.items()
    }
