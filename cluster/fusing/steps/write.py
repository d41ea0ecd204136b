"""Step 3 of 3: the fused pixels of one window, stored whole. No Ray and no PyTorch here."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from cluster.archive.reasons import explain
from cluster.archive.sources.source import digest_of
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.read import Opening
from cluster.fusing.steps.rows import (
    FRAME,
    NO_PLACE,
    SCENE,
    WINDOW,
    Row,
    crashed,
    ledger_place,
    unpack_image,
    unpack_mask,
)
from cluster.storage import fused_store, objects, scene_store, urls
from cluster.storage.scene_store import SceneLayout, survey_url

COUNTED_BYTES = 2**24
"""Size of fused pixels, in bytes, from which attempts to write them are counted: writing large ones may
exhaust the memory of a process."""


def write_window(
    row: Row,
    *,
    store_url: str,
    statistics_url: str,
    fingerprint: str,
    opening: Opening,
    attempts: Attempts | None = None,
) -> Row:
    """Step 3 of 3: store the fused pixels of one window, or a scene's survey; return the ledger row.

    Pixels that an earlier run stored for a rejected pair are removed. A window of at least COUNTED_BYTES
    that ended its process MAX_ATTEMPTS times while it was written is rejected as `crashed`.

    Args:
        row: of FuseWindows.
        store_url: URL of the store of fused arrays.
        statistics_url: folder of the surveys.
        fingerprint: digest of the run's settings, for the ledger.
        opening: how pairs are cut into windows.
        attempts: counter of the attempts at each window; None counts in this process only.

    Returns:
        The row without pixels, plus status fused, surveyed or rejected, written_bytes, write_s, seconds
        (of all three steps), fingerprint, and survey_digest of a scene and of its windows; crs and
        transform are as the ledger has them. Each object is written in one request, so the step may run
        twice.
    """
    start = time.perf_counter()
    reason, detail, written = row["reason"], row["detail"], 0
    counts = attempts if attempts and len(row["fused"]) >= COUNTED_BYTES else AttemptCounts()
    key = f"write {row['pair_id']} {row['window']}"
    if not reason and counts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", crashed("written")
    if not reason:
        try:
            written = _store(row, store_url, statistics_url, fingerprint, opening.window)
        except Exception as error:
            reason, detail = "failed", f"write: {explain(error)[1]}"
    if reason and not row["window"]:  # of a scene, whose windows are left, the last step does it
        try:
            fused_store.delete_fused(store_url, row["zarr_path"])
        except Exception as error:
            detail = f"{detail}; old pixels stay: {explain(error)[1]}"
    counts.end([key])
    write_s = time.perf_counter() - start
    dropped = {f"{image}{part}" for image in ("fused", "valid") for part in ("", "_shape", "_dtype")}
    dropped |= {"survey", "crs_code"}
    return {
        **{name: value for name, value in row.items() if name not in dropped},
        **(NO_PLACE if row["window"] else ledger_place(row)),
        "status": "rejected" if reason else "surveyed" if row["task"] == SCENE else "fused",
        "reason": reason,
        "detail": detail,
        "written_bytes": written,
        "write_s": write_s,
        "seconds": row["read_s"] + row["fuse_s"] + write_s,
        "fingerprint": fingerprint,
        "survey_digest": digest_of(row["survey"]) if row["survey"] else row.get("survey_digest", ""),
    }


def layout_of(row: Row, window: int) -> SceneLayout:
    """Return the layout of the arrays of a pair that is stored in windows, of `window` pixels."""
    transform: Any = row.get("transform") or None
    if isinstance(transform, str):
        transform = tuple(float(number) for number in transform.split())
    return SceneLayout(
        height=row["scene_height"] if "scene_height" in row else row["height"],
        width=row["scene_width"] if "scene_width" in row else row["width"],
        bands=row["bands"],
        dtype=row["dtype"],
        window=window,
        crs_wkt=row.get("crs", ""),
        crs_code=row.get("crs_code", ""),
        transform=transform,
    )


def attributes_of(row: Row, fingerprint: str) -> dict[str, Any]:
    """Return the attributes of a pair's group in the store."""
    return {
        "pair_id": str(row["pair_id"]),
        "ir_url": urls.redact_url(row["ir_url"]),
        "vis_url": urls.redact_url(row["vis_url"]),
        "ir_range": [float(row["ir_low"]), float(row["ir_high"])],
        "vis_range": [float(row["vis_low"]), float(row["vis_high"])],
        "fingerprint": fingerprint,
    }


def _store(row: Row, store_url: str, statistics_url: str, fingerprint: str, window: int) -> int:
    """Store what a row holds; return the number of bytes."""
    path = row["zarr_path"]
    if row["task"] == SCENE:
        scene_store.create_scene(store_url, path, layout_of(row, window))
        objects.put_bytes(survey_url(statistics_url, path), row["survey"])
        return len(row["survey"])
    pixels, valid = unpack_image(row, "fused"), unpack_mask(row, "valid")
    if row["task"] == FRAME and not row["crs"]:
        return fused_store.write_fused(store_url, path, pixels, attributes_of(row, fingerprint), valid)
    if valid is None:
        valid = np.ones(pixels.shape[:2], np.bool_)
    if row["task"] == WINDOW:
        layout = layout_of(row, window)
        i, j = divmod(row["window"] - 1, layout.num_columns)
        return scene_store.write_scene_window(store_url, path, layout, i, j, pixels, valid)
    # A frame on the earth is stored as a scene of one window.
    layout = layout_of(row, max(pixels.shape[:2]))
    scene_store.create_scene(store_url, path, layout)
    written = scene_store.write_scene_window(store_url, path, layout, 0, 0, pixels, valid)
    written += scene_store.write_overviews(store_url, path, layout)
    scene_store.finish_scene(store_url, path, layout, attributes_of(row, fingerprint))
    return written
