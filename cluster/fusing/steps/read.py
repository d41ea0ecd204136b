"""Step 1 of 3: the pixels of one window, read and decoded. No Ray and no PyTorch here."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from cluster.archive.reasons import explain
from cluster.archive.sources.frames import decode_image
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.rows import Row, crashed, pack_image
from cluster.storage import fused_store, objects


def read_window(row: Row, *, max_pixels: int, attempts: Attempts | None = None) -> Row:
    """Step 1 of 3: add the pixels of one window to its row.

    A pair whose reading ended its process MAX_ATTEMPTS times is not begun again.

    In:  pair_id, ir_url, vis_url (str), and columns that are passed on.
    Out: the same row plus
         zarr_path              group of the pair below the store
         ir, vis                the pixels' bytes, empty where reason is set
         ir_shape, vis_shape    "H W" or "H W 3"
         ir_dtype, vis_dtype    uint8, uint16 or float32
         reason, detail         "" or why the pair is rejected
         read_bytes, read_s     size of both files, seconds
    """
    start = time.perf_counter()
    attempts = attempts or AttemptCounts()
    key = f"read {row['pair_id']}"
    images: dict[str, NDArray[np.generic]] = {}
    reason, detail, read_bytes = "", "", 0
    if attempts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", crashed("read")
    for side in () if reason else ("ir", "vis"):
        try:
            data = objects.read_bytes(row[f"{side}_url"])
            read_bytes += len(data)
            images[side] = decode_image(data, max_pixels=max_pixels)
        # The edge of the step: one bad pair must not end the run of a million.
        except Exception as error:
            reason, detail = explain(error)
            detail = f"{side}: {detail}"
            break
    attempts.end([key])
    path = fused_store.escape_pair_id(row["pair_id"])
    out = {**row, "zarr_path": path, "reason": reason, "detail": detail, "read_bytes": read_bytes}
    for side in ("ir", "vis"):
        image = None if reason else images[side]
        out |= pack_image(side, image)
    return {**out, "read_s": time.perf_counter() - start}
