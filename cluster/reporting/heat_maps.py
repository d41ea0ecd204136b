"""Heat maps of a pair's features before and after CSAB, as pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.palettes import Inferno256
from numpy.typing import NDArray

from cluster.archive.encoding import encode_image
from cluster.archive.pair import read_images
from cluster.reporting.pictures import FOLDER, HEAT_MAPS, LARGE, QUALITY, name_of
from cluster.storage import objects, urls
from cluster.text.progress import Progress
from cluster.text.run_log import RunLog
from dmnet_core.attention import csab_maps
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.model import DMNet
from dmnet_core.prepare import Float, Reading

COLOURS = np.array([[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in Inferno256], np.uint8)
"""(256, 3) RGB: from black over red to yellow."""
BRIGHTEST = 99.8
"""Percentile of a map that is shown in the brightest colour."""
GAP = 4
"""Pixels between two maps."""

Row = dict[str, Any]


def draw_heat_maps(maps: Mapping[str, tuple[Float, Float]]) -> NDArray[np.uint8]:
    """Return the maps of a pair as one RGB picture: a column for each, before above and after below.

    Each map is coloured from its least value to the largest but for 0.2 % of its pixels, so that the two
    show where the features are strong, and not that CSAB makes all of them weaker.

    Args:
        maps: as `dmnet_core.attention.csab_maps` returns them.
    """
    columns = [
        np.vstack([_coloured(before), _gap(before, 0), _coloured(after)])
        for before, after in maps.values()
    ]
    parts = [part for column in columns for part in (column, _gap(column, 1))]
    return np.hstack(parts[:-1])


def write_heat_maps(
    rows: list[Row], output_url: str, opening: Row, latest: Row, log: RunLog | None = None
) -> None:
    """Write the heat maps of pairs that have none yet.

    A scene, and a pair that can't be read any more, get none.

    Args:
        rows: pairs: see `Chosen.rows`.
        output_url: URL of the output, whose report they belong to.
        opening: the options of `open_pair`, as of the run that fused them.
        latest: configuration of that run, whose network is used.
        log: log of the run that says how far this is.

    Raises:
        ValueError: the weights can't be used, or the network has no CSAB.
        OSError: the weights can't be read, or a picture can't be written.
    """
    checkpoint_url = latest.get("checkpoint_url")
    weights = objects.read_bytes(checkpoint_url) if checkpoint_url else None
    model = load_checkpoint(weights, preset=latest.get("preset", "compact")).model
    folder_url = urls.join_url(output_url, "report", FOLDER)
    there = {file.path for file in objects.find_files(folder_url)}
    with Progress(len(rows), "heat maps", log) as progress:
        for row in rows:
            name = f"{name_of(row)}{HEAT_MAPS}"
            if name not in there and row["height"] * row["width"] <= LARGE:
                _write(row, urls.join_url(folder_url, name), opening, model)
            progress.add()


def _write(row: Row, url: str, opening: Row, model: DMNet) -> None:
    ranges = (f"{row[f'{side}_low']}:{row[f'{side}_high']}" for side in ("ir", "vis"))
    try:
        pair = read_images(row, **opening).prepared(Reading(*ranges))
    except (OSError, ValueError):  # said beside the pair's images already
        return
    picture = draw_heat_maps(csab_maps(model, pair, pair_id=row["pair_id"]))
    objects.put_bytes(url, encode_image(picture, "jpeg", QUALITY))


def _coloured(values: Float) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(np.percentile(values, BRIGHTEST))
    scaled = (values - low) / max(high - low, 1e-12)
    return COLOURS[(255 * scaled.clip(0, 1)).round().astype(np.uint8)]


def _gap(like: NDArray[np.generic], axis: int) -> NDArray[np.uint8]:
    """Return white pixels that part a picture from the next one below (axis 0) or beside it (1)."""
    height, width = like.shape[:2]
    return np.full((GAP, width, 3) if axis == 0 else (height, GAP, 3), 255, np.uint8)
