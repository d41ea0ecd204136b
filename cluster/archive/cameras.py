"""Cameras of an archive: a small table says where the infrared image of each lies in the visible one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.archive.columns import HOMOGRAPHY, homography_of, homography_sql
from cluster.archive.reasons import BadImage
from cluster.storage import urls
from cluster.storage.tables import Database

PART = "camera"
"""Name of the part of a pattern, and of the column, that tells the camera."""
ANY = ("", "*")
"""How a row of the table names all cameras that have no row of their own."""

Row = dict[str, Any]


def read_cameras(url: str) -> dict[str, str]:
    """Return the homography of each camera, as the pair index holds it; "" is any other camera.

    Args:
        url: of a CSV or Parquet file with the columns camera and ir_to_vis.

    Raises:
        ValueError: there is no such table, or a row of it can't be used.
    """
    named = urls.redact_url(url)
    with Database() as database:
        if not database.open("cameras", url):
            raise ValueError(f"--cameras {named!r} is not there, expected a CSV or Parquet file")
        columns = database.columns("from cameras")
        if missing := [name for name in (PART, HOMOGRAPHY) if name not in columns]:
            raise ValueError(
                f"--cameras {named!r} has no column {', '.join(missing)} (it has "
                f"{', '.join(map(repr, columns))}), expected camera and ir_to_vis"
            )
        rows = database.frame(
            f"select coalesce({PART}::varchar, '') as camera, "
            f"{homography_sql(HOMOGRAPHY, columns[HOMOGRAPHY])} as numbers from cameras"
        )
    found: dict[str, str] = {}
    for given, numbers in zip(rows[PART], rows["numbers"], strict=True):
        camera = "" if given in ANY else given
        if camera in found:
            raise ValueError(f"--cameras {named!r} names the camera {given!r} twice, expected once")
        try:
            homography_of(numbers)
        except BadImage as error:
            raise ValueError(f"--cameras {named!r}: of the camera {given!r}, {error.detail}") from error
        found[camera] = numbers
    return found


def camera_of(pair_id: str, parts: tuple[str, ...]) -> str:
    """Return the camera of a pair: the part {camera} of its names, else the first segment of its pair_id.

    Args:
        pair_id: of the pair.
        parts: names of the parts that a pair_id consists of, in order; only `id` may hold slashes.
    """
    segments = pair_id.split("/")
    if PART not in parts or parts == (PART,):
        return segments[0]
    place = parts.index(PART)
    return segments[place - len(parts) if "id" in parts[:place] else place]


def with_cameras(rows: list[Row], parts: tuple[str, ...], homographies: Mapping[str, str]) -> int:
    """Set camera and ir_to_vis of rows of the index; return how many are of a camera without a row."""
    num_unknown = 0
    for row in rows:
        camera = camera_of(row["pair_id"], parts)
        known = homographies.get(camera, homographies.get(""))
        num_unknown += known is None
        row |= {PART: camera, HOMOGRAPHY: known or ""}
    return num_unknown
