"""Step 3 of 3: the fused pixels of one window, stored whole. No Ray and no PyTorch here."""

from __future__ import annotations

import time

from cluster.archive.reasons import explain
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.rows import Row, crashed, unpack_image, unpack_mask
from cluster.storage import fused_store, urls

COUNTED_BYTES = 2**24
"""Size of fused pixels, in bytes, from which attempts to write them are counted: writing large ones may
exhaust the memory of a process."""


def write_window(
    row: Row, *, store_url: str, fingerprint: str, attempts: Attempts | None = None
) -> Row:
    """Step 3 of 3: store the fused pixels of one window and return its ledger row.

    Pixels that an earlier run stored for a rejected pair are removed. A pair of at least COUNTED_BYTES
    that ended its process MAX_ATTEMPTS times while it was written is rejected as `crashed`.

    In:  a row of FuseWindows with zarr_path.
    Out: the row without pixels, plus status fused|rejected, written_bytes, write_s, seconds (of all
         three steps), fingerprint.
    The only step that writes. Each object is written in one request, so the step may run twice.
    """
    start = time.perf_counter()
    reason, detail, written = row["reason"], row["detail"], 0
    counts = attempts if attempts and len(row["fused"]) >= COUNTED_BYTES else AttemptCounts()
    key = f"write {row['pair_id']}"
    if not reason and counts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", crashed("written")
    if not reason:
        attributes = {
            "pair_id": str(row["pair_id"]),
            "ir_url": urls.redact_url(row["ir_url"]),
            "vis_url": urls.redact_url(row["vis_url"]),
            "ir_range": [float(row["ir_low"]), float(row["ir_high"])],
            "vis_range": [float(row["vis_low"]), float(row["vis_high"])],
            "fingerprint": fingerprint,
        }
        try:
            pixels, valid = unpack_image(row, "fused"), unpack_mask(row, "valid")
            written = fused_store.write_fused(store_url, row["zarr_path"], pixels, attributes, valid)
        except Exception as error:
            reason, detail = "failed", f"write: {explain(error)[1]}"
    if reason:
        try:
            fused_store.delete_fused(store_url, row["zarr_path"])
        except Exception as error:
            detail = f"{detail}; old pixels stay: {explain(error)[1]}"
    counts.end([key])
    write_s = time.perf_counter() - start
    dropped = {f"{image}{part}" for image in ("fused", "valid") for part in ("", "_shape", "_dtype")}
    return {
        **{name: value for name, value in row.items() if name not in dropped},
        "dtype": row["fused_dtype"],
        "status": "rejected" if reason else "fused",
        "reason": reason,
        "detail": detail,
        "written_bytes": written,
        "write_s": write_s,
        "seconds": row["read_s"] + row["fuse_s"] + write_s,
        "fingerprint": fingerprint,
    }
