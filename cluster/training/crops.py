"""Training pairs: decoded once to 16-bit luminance, then cut into crops in every epoch.

Plain functions on rows, without Ray: Ray Data runs `decode_pair`, and the workers run `crop_batches`.
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
from dmnet_core.prepare import DEFAULT, PreparedPair, Reading
from dmnet_core.ranges import from_unit

Row = dict[str, Any]
MAX_PIXELS = 2**24
"""Largest height x width of a training image."""
SHUFFLED = 512
"""Largest number of pairs in the buffer from which a worker draws its next pair."""
VALIDATION_SIDE = 512
"""Largest side of a validation pair in pixels; of a larger pair the middle is fused."""


def decode_pair(row: Row) -> Row:
    """Return the luminance of a pair as 16-bit levels, decoded once for all epochs.

    In:  the columns READ of the pair index.
    Out: pair_id; ir, vis (bytes of uint16, luminance times 65535); height, width (pixels); reason ("" or
         why the pair can't be used).
    """
    out = {"pair_id": row["pair_id"], "ir": b"", "vis": b"", "height": 0, "width": 0, "reason": ""}
    try:
        pair = read_pair(row)
    # The edge of the step: the driver counts unusable pairs and prints their reasons.
    except Exception as error:
        return out | {"reason": one_line(error)[:300]}
    height, width = pair.ir.shape
    sides = {name: from_unit(getattr(pair, name), "uint16").tobytes() for name in ("ir", "vis")}
    return out | sides | {"height": height, "width": width}


def read_pair(row: Row, reading: Reading = DEFAULT) -> PreparedPair:
    """Read a pair of the index and convert it to luminance.

    Args:
        row: ir_url and vis_url of the pair.
        reading: how source values are mapped to [0, 1].

    Raises:
        ValueError: an image can't be read, or the two can't be fused; see `read_images`, `prepare_pair`.
    """
    return read_images(row, max_pixels=MAX_PIXELS).prepared(reading)


def side_of(row: Row, side: str) -> Tensor:
    """Return the image `side`, ir or vis, of a row of `decode_pair`: (H, W) float32 in [0, 1]."""
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
    """Yield one worker's batches of an epoch: pair ids, ir and vis (B, 1, side, side) in [0, 1].

    Each pair of the shard gives `crops_per_pair` crops. Seed and epoch decide the order of the pairs, and
    seed, epoch and rank the position of each crop. In one step the crops of all workers have one side; B
    is proportional to 1 / side^2. Crops that do not fill the last batch are dropped.

    Args:
        shard: the worker's rows of `decode_pair`, a data iterator of Ray Data.
        config: configuration of the training.
        num_pairs: number of pairs of all workers.
        epoch: number of epochs before this one.
        rank: rank of the worker.
        world: number of workers.
    """
    sides = np.random.default_rng((config.seed, epoch))  # alike on all workers
    positions = np.random.default_rng((config.seed, epoch, rank))
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
            cut.append(random_crop(*pair, side, positions, tones=config.vary_tones))
            names.append(row["pair_id"])
            if len(cut) == crops_at(side, config, world):
                ir, vis = (torch.stack([pair[k] for pair in cut]) for k in (0, 1))
                yield names, ir, vis
                side, names, cut = _draw_side(sides, config), [], []


def crops_at(side: int, config: TrainConfig, world: int) -> int:
    """Return one worker's number of crops in a step, which has about as many pixels at each side."""
    everywhere: float = config.batch_size * (config.crop_sides[0] / side) ** 2
    return max(1, round(everywhere / world))


def _draw_side(random: np.random.Generator, config: TrainConfig) -> int:
    return int(config.crop_sides[random.integers(len(config.crop_sides))])
