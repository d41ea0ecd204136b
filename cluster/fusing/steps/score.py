"""The last two steps of a scene: its windows are scored, then it is finished. No Ray here.

The metrics of a window need the fused pixels around it, so they follow when all windows are stored. The
sums of each window are put beside the survey; from all of them come the metrics of the scene.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from cluster.archive.pair import open_pair
from cluster.archive.reasons import BadImage, explain
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.read import Opening, check_version, part_of
from cluster.fusing.steps.rows import (
    NO_PLACE,
    RANGES,
    Row,
    crashed,
    delete_sums,
    ledger_place,
    pack_place,
    sums_url,
)
from cluster.fusing.steps.survey import load_survey, read_part, survey_id
from cluster.fusing.steps.write import attributes_of, layout_of
from cluster.storage import fused_store, objects, scene_store, urls
from cluster.storage.scene_store import survey_url
from dmnet_core.inference import fused_luminance
from dmnet_core.levels import to_levels
from dmnet_core.metrics import (
    HALO,
    METRICS,
    fusion_statistics,
    merge,
    pack_statistics,
    unpack_statistics,
)
from dmnet_core.window import window_at

T = TypeVar("T")


def score_window(
    row: Row,
    *,
    opening: Opening,
    store_url: str,
    statistics_url: str,
    fingerprint: str,
    attempts: Attempts | None = None,
) -> Row:
    """Put the sums from which `finish_scene` computes the metrics of one window; return its ledger row.

    In:  a row of a stored window: pair_id, ir_url, vis_url, window, the columns of the scene's survey,
         and valid_share, read_bytes, written_bytes and seconds of the window.
    Out: the row with status scored, or rejected with reason and detail.
    """
    start = time.perf_counter()
    key = f"score {row['pair_id']} {row['window']}"
    num_bytes, reason, detail = _attempted(
        attempts, key, "scored", lambda: _put_sums(row, opening, store_url, statistics_url)
    )
    window = window_at(row["scene_height"], row["scene_width"], opening.window, 0, row["window"] - 1)
    return _result(row, reason, detail, fingerprint, start) | {
        "status": "rejected" if reason else "scored",
        "height": window.rows.last - window.rows.first,
        "width": window.columns.last - window.columns.first,
        "written_bytes": row["written_bytes"] + (num_bytes or 0),
    }


def finish_scene(
    row: Row,
    *,
    opening: Opening,
    store_url: str,
    statistics_url: str,
    fingerprint: str,
    attempts: Attempts | None = None,
) -> Row:
    """Compute the metrics of a scene, store its overviews and its attributes; return its ledger row.

    A scene of which a window was rejected is rejected, and its pixels are removed.

    In:  a row of a scene: pair_id, ir_url, vis_url, the columns of its survey, reason and detail of a
         rejected window, and valid_share, read_bytes, written_bytes and seconds of all windows.
    Out: the row with status fused and the metrics, or rejected.
    """
    start = time.perf_counter()
    found: Row | None = None
    reason, detail = row["reason"], row["detail"]
    if not reason:
        found, reason, detail = _attempted(
            attempts, f"finish {row['pair_id']}", "finished",
            lambda: _finish(row, opening, store_url, statistics_url, fingerprint),
        )  # fmt: skip
    if reason:
        try:
            fused_store.delete_fused(store_url, row["zarr_path"])
            delete_sums(statistics_url, row["zarr_path"])
        except Exception as error:
            detail = f"{detail}; old pixels stay: {explain(error)[1]}"
    done = _result(row, reason, detail, fingerprint, start)
    size = (0, 0, 0) if reason else (row["scene_height"], row["scene_width"], row["bands"])
    sizes = dict(zip(("height", "width", "bands"), size, strict=True))
    return done | sizes | (found or {}) | {"window": 0, "status": "rejected" if reason else "fused"}


def _attempted(
    attempts: Attempts | None, key: str, doing: str, work: Callable[[], T]
) -> tuple[T | None, str, str]:
    """Return what some work gives, or None with the reason and the detail of its failure.

    Args:
        attempts: counter of the attempts at it; None counts in this process only.
        key: names the work for the counter.
        doing: what the pair was while the work went on, for the message of `crashed`.
        work: to be done, unless it ended its process MAX_ATTEMPTS times.
    """
    attempts = attempts or AttemptCounts()
    done: T | None = None
    reason, detail = "", ""
    if attempts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", crashed(doing)
    else:
        try:
            done = work()
        except Exception as error:  # stores and decoders raise errors of their own
            reason, detail = explain(error)
    attempts.end([key])
    return done, reason, detail


def _put_sums(row: Row, opening: Opening, store_url: str, statistics_url: str) -> int:
    window = window_at(row["scene_height"], row["scene_width"], opening.window, HALO, row["window"] - 1)
    found = load_survey(survey_url(statistics_url, row["zarr_path"]), row["survey_digest"])
    with open_pair(row, **opening.options) as pair:
        check_version(pair, row)
        part = read_part(pair, found.reading, window)
    try:
        pixels, _ = scene_store.read_scene_window(
            store_url, row["zarr_path"], layout_of(row, opening.window), *part_of(window)
        )
    except FileNotFoundError as error:
        detail = "a stored window is gone, expected what this job put: run the same command again"
        raise BadImage("failed", detail) from error
    images = (part.ir, part.vis, fused_luminance(pixels))
    ir, vis, fused = (
        to_levels(torch.from_numpy(np.ascontiguousarray(image))[None, None]) for image in images
    )
    valid = None if part.valid is None else torch.from_numpy(part.valid)[None, None]
    data = pack_statistics(fusion_statistics(ir, vis, fused, window, valid))
    objects.put_bytes(urls.join_url(_sums_url(statistics_url, row), f"{row['window']}.npz"), data)
    return len(data)


def _finish(
    row: Row, opening: Opening, store_url: str, statistics_url: str, fingerprint: str
) -> Row:
    with open_pair(row, **opening.options) as pair:
        check_version(pair, row, with_parts=True)  # all of its pixels have been read by now
        place = pack_place(pair.crs, pair.crs_code, pair.transform)
    layout = layout_of(row | place, opening.window)
    metrics = _merged(row, statistics_url)
    num_bytes = scene_store.write_overviews(store_url, row["zarr_path"], layout)
    scene_store.finish_scene(store_url, row["zarr_path"], layout, attributes_of(row, fingerprint))
    return {**metrics, **ledger_place(place), "written_bytes": row["written_bytes"] + num_bytes}


def _merged(row: Row, statistics_url: str) -> dict[str, float]:
    """Return the metrics of a scene; the sums of its windows are removed once these are stored."""
    folder_url = _sums_url(statistics_url, row)
    metrics_url = f"{folder_url}.json"
    sums = [urls.join_url(folder_url, f"{number + 1}.npz") for number in range(row["num_windows"])]
    try:
        metrics: dict[str, float] = json.loads(objects.read_bytes(metrics_url))
    except FileNotFoundError:
        merged = merge(unpack_statistics(objects.read_bytes(url)) for url in sums)
        metrics = {name: float(merged[name][0]) for name in METRICS}
        objects.put_bytes(metrics_url, json.dumps(metrics).encode())
    for url in sums:
        objects.delete(url)
    delete_sums(statistics_url, row["zarr_path"], keep=survey_id(row))  # of surveys that came to no end
    return metrics


def _sums_url(statistics_url: str, row: Row) -> str:
    """Return the folder of the sums of a scene's windows under its present survey."""
    return sums_url(statistics_url, row["zarr_path"], survey_id(row))


def _result(row: Row, reason: str, detail: str, fingerprint: str, start: float) -> Row:
    """Return what the ledger's row of a window or a scene has, apart from its status and metrics."""
    nothing: dict[str, Any] = dict.fromkeys(METRICS, float("nan"))
    taken = time.perf_counter() - start
    return {
        **row,
        **nothing,
        **NO_PLACE,
        "ir_digest": "",
        "vis_digest": "",
        "reason": reason,
        "detail": detail,
        "fingerprint": fingerprint,
        "read_s": 0.0,
        "fuse_s": 0.0,
        "write_s": taken,
        "seconds": row["seconds"] + taken,
        **({} if not reason else dict.fromkeys(RANGES, float("nan"))),
    }
