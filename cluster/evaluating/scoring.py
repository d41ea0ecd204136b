"""The step of an evaluation: the metrics of every method's fused image of one pair.

A plain function on rows, without Ray. One row goes in and one row for each method comes out; an error
becomes the reason and the detail of its row.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.archive.pair import PairImages, read_images
from cluster.archive.reasons import explain
from cluster.archive.sources.frames import decode_image
from cluster.storage import fused_store, objects, scene_store, urls
from cluster.storage.scene_store import STATISTICS
from dmnet_core.inference import fused_luminance
from dmnet_core.levels import from_levels, to_levels
from dmnet_core.metrics import METRICS, fusion_metrics
from dmnet_core.prepare import PreparedPair, Reading
from dmnet_core.reading import SceneReading, prepare_window
from dmnet_core.references import METHODS
from dmnet_core.scene_survey import SceneSurvey

Row = dict[str, Any]
NOT_SCORED = dict.fromkeys(METRICS, float("nan"))


@dataclass(frozen=True)
class Method:
    """One method, and where its fused images are."""

    name: str
    """Name of the method in tables."""
    kind: str
    """Kind of source: reference (computed here), store (a Zarr store of ours) or images (a folder)."""
    url: str
    """URL of the store or the folder; empty for a reference."""


def score_pair(
    row: Row,
    *,
    methods: tuple[Method, ...],
    stretch: str,
    reading: Reading,
    max_pixels: int,
    resample: bool = False,
) -> list[Row]:
    """Score each method's fused image of one pair.

    In:  the columns READ of the pair index, set (str), locations (JSON: for each method that has a fused
         image of the pair, its URL or its group in the store). A method that is not in it gives no row.
    Out: a row for each method: pair_id, set, method, height, width, EN, SD, ... (NaN where reason is
         set), reason, detail, seconds.
    """
    locations: dict[str, str] = json.loads(row["locations"])
    methods = tuple(method for method in methods if method.name in locations)
    start = time.perf_counter()
    try:
        images = read_images(row, max_pixels=max_pixels, resample=resample)
        pair = _prepared(images, reading, methods, locations)
        sources = (_levels(pair.ir), _levels(pair.vis))  # (1, 1, H, W) grey levels
        valid = None if pair.valid is None else torch.from_numpy(pair.valid)[None, None]
    # The edge of the step: one bad pair must not end the run of a million.
    except Exception as error:
        reason, detail = explain(error)
        return [_row(row, method, reason=reason, detail=f"source: {detail}") for method in methods]
    read_s = time.perf_counter() - start
    rows = []
    for method in methods:
        start = time.perf_counter()
        try:
            fused = _fused(method, locations[method.name], sources, stretch, max_pixels)
            if fused.shape != sources[0].shape:
                detail = (
                    f"the fused image is {fused.shape[2]} x {fused.shape[3]} px and its sources are "
                    f"{sources[0].shape[2]} x {sources[0].shape[3]} px (height x width)"
                )
                rows.append(_row(row, method, reason="wrong_size", detail=detail))
                continue
            values = fusion_metrics(*sources, fused, valid)
        except Exception as error:
            reason, detail = explain(error)
            rows.append(_row(row, method, reason=reason, detail=f"fused: {detail}"))
            continue
        scores = {name: float(value) for name, value in values.items()}
        seconds = read_s + time.perf_counter() - start
        rows.append(_row(row, method, size=fused.shape[2:], scores=scores, seconds=seconds))
    return rows


def read_pictures(
    row: Row,
    *,
    methods: tuple[Method, ...],
    stretch: str,
    reading: Reading,
    max_pixels: int,
    resample: bool = False,
) -> dict[str, NDArray[np.uint8]]:
    """Return the images of one pair as they are scored, (H, W) uint8: ir, vis, and by a method's name.

    A method whose image can't be read is left out: the table of problems has it.

    Raises:
        BadPair, ValueError: the sources can't be read.
    """
    locations: dict[str, str] = json.loads(row["locations"])
    methods = tuple(method for method in methods if method.name in locations)
    images = read_images(row, max_pixels=max_pixels, resample=resample)
    pair = _prepared(images, reading, methods, locations)
    sources = (_levels(pair.ir), _levels(pair.vis))
    shown = dict(zip(("ir", "vis"), sources, strict=True))
    for method in methods:
        with suppress(OSError, ValueError):
            shown[method.name] = _fused(method, locations[method.name], sources, stretch, max_pixels)
    return {name: levels[0, 0].numpy().astype(np.uint8) for name, levels in shown.items()}


def _prepared(
    images: PairImages, reading: Reading, methods: tuple[Method, ...], locations: dict[str, str]
) -> PreparedPair:
    """Return a pair as it was fused: by its survey where the first of our outputs has it as a scene.

    So the scores are those of that output's metrics. Where a range is given, this counts instead, and a
    pair that was fused whole is read by its own pixels.
    """
    stores = [method for method in methods if method.kind == "store"]
    if stores and (reading.ir_range, reading.vis_range) == ("auto", "auto"):
        ir, vis = images.ir, images.vis
        found = _scene_reading(stores[0].url, locations[stores[0].name])
        if found is not None and (found.height, found.width) == vis.pixels.shape[:2]:
            return prepare_window(
                ir.pixels, vis.pixels, found, 0, 0, ir_valid=ir.valid, vis_valid=vis.valid
            )
    return images.prepared(reading)


def _scene_reading(store_url: str, zarr_path: str) -> SceneReading | None:
    """Return how the source values of a stored scene were read; None of a pair that is no scene."""
    statistics_url = urls.join_url(store_url.rstrip("/").rpartition("/")[0], STATISTICS)
    try:
        data = objects.read_bytes(scene_store.survey_url(statistics_url, zarr_path))
    except FileNotFoundError:
        return None
    found = SceneSurvey.from_bytes(data).reading
    stored = fused_store.read_store_attributes(urls.join_url(store_url, zarr_path)) or {}
    limits = [list(found.ir.limits), list(found.vis.limits)]
    # the survey of a scene stays where the pair was fused again as a frame
    return found if [stored.get("ir_range"), stored.get("vis_range")] == limits else None


def _fused(
    method: Method,
    location: str,
    sources: tuple[torch.Tensor, torch.Tensor],
    stretch: str,
    max_pixels: int,
) -> torch.Tensor:
    """Return a method's image of a pair as (1, 1, H, W) grey levels."""
    if method.kind == "reference":
        fused = from_levels(METHODS[method.name](*sources)[0, 0].numpy())
        return _levels(fused_luminance(fused.clip(0, 1), stretch))
    if method.kind == "store":
        image = fused_store.read_fused(method.url, location, max_pixels=max_pixels)
    else:
        image = decode_image(objects.read_bytes(location), max_pixels=max_pixels).pixels
    return _levels(fused_luminance(image, stretch))


def _levels(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.rint(to_levels(image)))[None, None]  # (1, 1, H, W)


def _row(
    row: Row,
    method: Method,
    *,
    size: tuple[int, ...] = (0, 0),
    scores: dict[str, float] = NOT_SCORED,
    reason: str = "",
    detail: str = "",
    seconds: float = 0.0,
) -> Row:
    return {
        "pair_id": row["pair_id"],
        "set": row["set"],
        "method": method.name,
        "height": size[0],
        "width": size[1],
        **scores,
        "reason": reason,
        "detail": detail,
        "seconds": seconds,
    }
