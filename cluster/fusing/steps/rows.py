"""Rows that pass through the steps, and the columns that hold an image.

A row is a dict of plain values. An image is a column of bytes with a column for its shape and one for its
type, which is the form that Ray transfers fastest.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.fusing.steps.attempts import MAX_ATTEMPTS
from cluster.storage import objects, urls
from cluster.storage.scene_store import SURVEY, survey_url

Row = dict[str, Any]
FRAME, SCENE, WINDOW = "frame", "scene", "window"
"""What a row's pixels are, in its column `task`: a whole pair, a pair to be surveyed, a window of it."""
RANGES = ("ir_low", "ir_high", "vis_low", "vis_high")
"""Columns of the source values that were mapped to 0 and to 1, of ir and of vis."""
NO_PLACE = {"crs": "", "transform": ""}
"""Columns of the ledger's row of a window, whose place is that of its pair."""

OF_SUMS = re.compile(r"sums-(\d+\.\d+)(?:/\d+\.npz|\.json)")
"""Paths of the sums of a scene's windows, and of its metrics; the group is the id of their survey."""


def pack_image(name: str, image: NDArray[np.generic] | None) -> Row:
    """Return an image as the columns NAME, NAME_shape and NAME_dtype, which are empty without one."""
    if image is None:
        return {name: b"", f"{name}_shape": "", f"{name}_dtype": ""}
    shape = " ".join(map(str, image.shape))
    return {name: image.tobytes(), f"{name}_shape": shape, f"{name}_dtype": str(image.dtype)}


def unpack_image(row: Row, name: str) -> NDArray[np.generic]:
    """Return the image that `pack_image` stored in the columns of a name; read-only."""
    shape = tuple(int(side) for side in row[f"{name}_shape"].split())
    return np.frombuffer(row[name], dtype=row[f"{name}_dtype"]).reshape(shape)


def unpack_mask(row: Row, name: str) -> NDArray[np.bool_] | None:
    """Return the mask that `pack_image` stored in the columns of a name; None where it stored none."""
    return unpack_image(row, name).astype(bool, copy=False) if row[f"{name}_shape"] else None


def pack_place(crs: str, crs_code: str, transform: tuple[float, ...] | None) -> Row:
    """Return where an image lies on the earth as columns, which are empty where it does not."""
    numbers = "" if transform is None else " ".join(map(repr, transform))
    return {"crs": crs, "crs_code": crs_code, "transform": numbers}


def ledger_place(row: Row) -> Row:
    """Return where a pair lies as the ledger has it, of the columns of `pack_place`.

    `crs` is a code as EPSG:32632 where there is one, else WKT; what the pair does not have is empty.
    """
    return {"crs": row["crs_code"] or row["crs"], "transform": row["transform"]}


def sums_url(statistics_url: str, zarr_path: str, survey_id: str) -> str:
    """Return the folder of the sums of a scene's windows under one of its surveys."""
    return urls.join_url(_folder_url(statistics_url, zarr_path), f"sums-{survey_id}")


def delete_sums(statistics_url: str, zarr_path: str, keep: str = "") -> None:
    """Remove the sums and the metrics of a scene under every survey but the one whose id is `keep`."""
    for file in list(objects.find_files(_folder_url(statistics_url, zarr_path))):
        found = OF_SUMS.fullmatch(file.path)
        if found and found[1] != keep:
            objects.delete(file.url)


def _folder_url(statistics_url: str, zarr_path: str) -> str:
    return survey_url(statistics_url, zarr_path).removesuffix(SURVEY)


def crashed(doing: str) -> str:
    """Return the detail of a pair rejected as `crashed`; `doing` is read, fused or written."""
    return (
        f"its process ended {MAX_ATTEMPTS} times while it was {doing}, expected it to go through: look "
        "at the files, or give the workers more memory; --reprocess tries it again"
    )
