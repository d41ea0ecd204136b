"""Pairs to train on, as plain functions on rows: decoded once, kept as 16-bit luminance.

No Ray here: the driver hands `decode_pair` to Ray Data, and the workers read what it leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster import storage
from cluster.decode import decode_image
from cluster.plain_text import one_line
from dmnet_core.inference import PreparedPair, prepare_pair
from dmnet_core.ranges import from_unit

Row = dict[str, Any]
MAX_PIXELS = 2**24
VALIDATION_SIDE = 512
"""Pixels; the middle of a larger validation pair is fused."""


def decode_pair(row: Row) -> Row:
    """Return a pair's luminance as 16-bit levels, decoded once for all epochs.

    In:  pair_id, ir_url, vis_url (str).
    Out: pair_id, ir, vis (bytes of uint16), height, width, reason ("" or why it can't be trained on).
    """
    out = {"pair_id": row["pair_id"], "ir": b"", "vis": b"", "height": 0, "width": 0, "reason": ""}
    try:
        pair = read_pair(row)
    # The edge of the step: the driver counts and names it.
    except Exception as error:
        return out | {"reason": one_line(error)[:300]}
    height, width = pair.ir.shape
    sides = {name: from_unit(getattr(pair, name), "uint16").tobytes() for name in ("ir", "vis")}
    return out | sides | {"height": height, "width": width}


def read_pair(row: Row) -> PreparedPair:
    """Return a pair of the index as the network takes it."""
    ir, vis = (
        decode_image(storage.read_bytes(row[f"{side}_url"]), max_pixels=MAX_PIXELS)
        for side in ("ir", "vis")
    )
    return prepare_pair(ir, vis)


def side_of(row: Row, side: str) -> Tensor:
    """Return one side of a row of `decode_pair`, (H, W) float32 in [0, 1]."""
    levels = np.frombuffer(row[side], dtype=np.uint16).reshape(row["height"], row["width"])
    return torch.from_numpy(levels.astype(np.float32) / 65535)


def middle_of(pair: PreparedPair) -> PreparedPair:
    """Return the middle of a pair, at most VALIDATION_SIDE pixels on a side."""
    height, width = pair.ir.shape
    top, left = max(0, height - VALIDATION_SIDE) // 2, max(0, width - VALIDATION_SIDE) // 2
    cut = (slice(top, top + VALIDATION_SIDE), slice(left, left + VALIDATION_SIDE))
    return PreparedPair(
        np.ascontiguousarray(pair.ir[cut]), np.ascontiguousarray(pair.vis[cut]), None,
        pair.ir_range, pair.vis_range,
    )  # fmt: skip
