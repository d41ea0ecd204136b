"""Pairs to train on, as plain functions on rows: decoded once, kept as 16-bit luminance.

No Ray here: the driver hands `decode_pair` to Ray Data, and the workers cut what it leaves into crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.archive.pair import read_images
from cluster.text.plain_text import one_line
from cluster.training.config import TrainConfig
from dmnet_core.augment import random_crop
from dmnet_core.inference import PreparedPair, prepare_pair
from dmnet_core.ranges import from_unit

Row = dict[str, Any]
MAX_PIXELS = 2**24
SHUFFLED = 512
"""Pairs of a worker from which the next one is drawn, at most."""
VALIDATION_SIDE = 512
"""Pixels; the middle of a larger validation pair is fused."""


def decode_pair(row: Row) -> Row:
    """Return a pair's luminance as 16-bit levels, decoded once for all epochs.

    In:  pair_id, ir_url, vis_url (str).
    Out: pair_id, ir, vis (bytes of uint16), height, width, reason ("" or why it can't be used).
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


def read_pair(row: Row, range_policy: str = "auto") -> PreparedPair:
    """Return a pair of the index as the network takes it."""
    images = read_images(row, max_pixels=MAX_PIXELS)
    return prepare_pair(images.ir, images.vis, range_policy)


def side_of(row: Row, side: str) -> Tensor:
    """Return one side of a row of `decode_pair`, (H, W) float32 in [0, 1]."""
    levels = np.frombuffer(row[side], dtype=np.uint16).reshape(row["height"], row["width"])
    return torch.from_numpy(levels.astype(np.float32) / 65535)


def middle_of(row: Row) -> PreparedPair:
    """Return the middle of a row of `decode_pair`, at most VALIDATION_SIDE pixels on a side."""
    top, left = (max(0, row[name] - VALIDATION_SIDE) // 2 for name in ("height", "width"))
    cut = (slice(top, top + VALIDATION_SIDE), slice(left, left + VALIDATION_SIDE))
    ir, vis = (np.ascontiguousarray(side_of(row, side).numpy()[cut]) for side in ("ir", "vis"))
    return PreparedPair(ir, vis, None, (0.0, 1.0), (0.0, 1.0))


def crop_batches(
    shard: Any, config: TrainConfig, num_pairs: int, *, epoch: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Yield one worker's steps of an epoch: pair ids, ir and vis (B, 1, side, side) in [0, 1].

    Each pair of the shard is cut `crops_per_pair` times, in an order that the seed and the epoch decide
    and at places that the worker decides too. All workers cut one side in one step; B goes with
    1 / side^2. Crops that do not fill the last step are not used.

    Args:
        shard: rows of `decode_pair`, as Ray Data iterates them.
        config: of the training.
        num_pairs: of all workers.
        epoch: epochs before this one.
        rank: of the worker.
        world: workers.
    """
    sides = np.random.default_rng((config.seed, epoch))  # alike on all workers
    places = np.random.default_rng((config.seed, epoch, rank))
    side, names, cut = _draw_side(sides, config), [], []
    for turn in range(config.crops_per_pair):
        for batch in shard.iter_batches(
            batch_size=1,
            batch_format="pyarrow",
            local_shuffle_buffer_size=max(2, min(num_pairs // world, SHUFFLED)),
            local_shuffle_seed=hash((config.seed, epoch, turn)) % 2**31,
        ):
            (row,) = batch.to_pylist()
            pair = (side_of(row, "ir"), side_of(row, "vis"))
            cut.append(random_crop(*pair, side, places, tones=config.vary_tones))
            names.append(row["pair_id"])
            if len(cut) == crops_at(side, config, world):
                ir, vis = (torch.stack([pair[k] for pair in cut]) for k in (0, 1))
                yield names, ir, vis
                side, names, cut = _draw_side(sides, config), [], []


def crops_at(side: int, config: TrainConfig, world: int) -> int:
    """Return one worker's crops of a step: about as many pixels whatever the side."""
    everywhere: float = config.batch_size * (config.crop_sides[0] / side) ** 2
    return max(1, round(everywhere / world))


def _draw_side(random: np.random.Generator, config: TrainConfig) -> int:
    return int(config.crop_sides[random.integers(len(config.crop_sides))])
