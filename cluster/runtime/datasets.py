"""Rows handed to Ray Data, in few blocks, and the share of a cluster that actors may claim."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pandas as pd
import ray
import ray.data

from cluster.storage import tables

MAX_BLOCKS = 256
"""Of rows on their way into Ray Data, for few workers: each costs the driver memory and bookkeeping."""
BLOCKS_PER_WORKER = 16
"""For many: the last ones must not leave most workers without work."""

def dataset_of(
    frames: Iterable[pd.DataFrame],
    num_rows: int,
    least_per_block: int,
    num_workers: int | None = None,
    **task_options: Any,
) -> ray.data.Dataset:
    """Return rows as a dataset of few blocks, however many they are; each becomes one task.

    The rows wait packed: they are in Ray's store, and in the driver's memory, as long as the run lasts.

    Args:
        frames: of plain values.
        num_rows: of all frames.
        least_per_block: rows that a block has where there are enough.
        num_workers: that work on them, by default as many as the cluster has CPUs.
        task_options: Ray's, of the `map` or `flat_map` that follows: with equal ones Ray Data does it and
            the unpacking in one task.
    """
    most = most_blocks(num_workers or int(ray.cluster_resources().get("CPU", 1)))
    # Not ray.data.from_pandas: it starts a task for each block, only to learn its size.
    blocks: Any = tables.packed_blocks(frames, num_rows, least_per_block, most)
    dataset: ray.data.Dataset = ray.data.from_blocks(blocks)
    unpack = cast(Any, tables.unpack_rows)
    return dataset.map_batches(unpack, batch_size=None, batch_format="pyarrow", **task_options)


def most_blocks(num_workers: int) -> int:
    """Return how many blocks the rows of a run are cut into at most."""
    return max(MAX_BLOCKS, BLOCKS_PER_WORKER * num_workers)


def actor_claim(cluster_cpus: float, num_actors: int, wanted: float) -> float:
    """Return the CPUs that one actor reserves, so that the tasks beside it always find some.

    A reservation is bookkeeping; the actor's threads are as many as the config says. Where a
    cluster has no CPU yet, an autoscaler will bring nodes for the full claim.
    """
    if cluster_cpus <= 0:
        return wanted
    share = max(0.0, cluster_cpus - 1) / num_actors
    if wanted <= share:
        return wanted
    return float(int(share)) if share >= 1 else int(share * 100) / 100
