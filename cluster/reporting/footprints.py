"""Where the pairs of a page lie on the earth, as outlines for a plain map in Web Mercator."""

from __future__ import annotations

import math
from typing import Any

from cluster.archive.stac_item import footprint
from cluster.storage.stac_table import PackagesMissing

MAX_FOOTPRINTS = 400
"""Most pairs that are drawn on the map."""
MAX_LATITUDE = 85.0
EARTH_RADIUS = 6_378_137.0
"""Radius of the sphere of Web Mercator, in metres."""

Row = dict[str, Any]


def footprints(rows: list[Row]) -> tuple[list[Row], str]:
    """Return the outlines of the first pairs that lie on the earth, and why some are missing.

    Args:
        rows: pairs with crs, transform, height and width.

    Returns:
        For each outline the pair's place in `rows`, and its `xs` and `ys` in metres of Web Mercator; and
        a sentence for people, empty where nothing is missing.
    """
    found: list[Row] = []
    num_placed = 0
    for place, row in enumerate(rows):
        if not row.get("crs") or not row.get("transform"):
            continue
        num_placed += 1
        if len(found) >= MAX_FOOTPRINTS:
            continue
        try:
            transform = [float(number) for number in row["transform"].split()]
            geometry, _ = footprint(row["crs"], transform, row["height"], row["width"])
        except PackagesMissing:
            return [], "There is no map: it needs the packages that pip install -e '.[stac]' installs."
        except ValueError:
            continue  # its place is none on the earth
        parts = [geometry["coordinates"]]
        if geometry["type"] == "MultiPolygon":
            parts = geometry["coordinates"]
        for rings in parts:
            points = [_mercator(*point) for point in rings[0]]
            found.append({"place": place, "xs": [x for x, _ in points], "ys": [y for _, y in points]})
    if num_placed > MAX_FOOTPRINTS:
        shown = (
            f"The map shows {MAX_FOOTPRINTS} of the {num_placed} pairs on this page that have a place."
        )
        return found, shown
    return found, ""


def _mercator(longitude: float, latitude: float) -> tuple[float, float]:
    north = math.radians(max(-MAX_LATITUDE, min(MAX_LATITUDE, latitude)))
    x = EARTH_RADIUS * math.radians(longitude)
    return round(x, 1), round(EARTH_RADIUS * math.log(math.tan(math.pi / 4 + north / 2)), 1)
