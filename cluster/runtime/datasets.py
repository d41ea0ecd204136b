"""Rows handed to Ray Data in few blocks, and the share of a cluster that actors may claim."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import ray
import ray.data

from cluster.storage import objects, tables
from cluster.storage.tables import Database
from cluster.storage.urls import StorageError

MAX_BLOCKS = 256
"""Most blocks that the rows of a run are cut into, for few workers: each costs the driver memory."""
BLOCKS_PER_WORKER = 16
"""Most blocks for each of many workers: the last blocks must not leave most of them without work."""


@contextmanager
def dataset_of(
    database: Database,
    query: str,
    url_prefix: str,
    *,
    least_per_block: int,
    num_workers: int | None = None,
    **task_options: Any,
) -> Iterator[ray.data.Dataset]:
    """Yield the rows of a query as a dataset of few blocks, however many they are.

    The rows wait as files, one a block, which the tasks read and which are removed in the end: neither
    the driver nor Ray's store holds them.

    Args:
        database: the database that answers the query.
        query: SQL; the order of its rows is that of the dataset.
        url_prefix: what the files' URLs begin with, in a place that every worker reaches.
        least_per_block: rows of a block where there are enough.
        num_workers: number of processes that work on the rows, by default the cluster's CPUs.
        task_options: Ray's options of the `map` or `flat_map` that follows: with equal ones Ray Data does
            that and the reading of a file in one task.
    """
    (num_rows,) = database.first(f"select count(*) from ({query})")
    most = most_blocks(num_workers or int(ray.cluster_resources().get("CPU", 1)))
    prefix = f"{url_prefix}-{secrets.token_hex(4)}"  # so that two jobs may write side by side
    block_urls: list[str] = []
    try:
        for url in database.write_blocks(query, prefix, max(least_per_block, -(-num_rows // most))):
            block_urls.append(url)
        # Not ray.data.from_pandas: it starts a task for each block, only to learn its size.
        named: Any = [tables.as_table([{"url": url}], {"url": "str"}) for url in block_urls]
        yield ray.data.from_blocks(named).map_batches(
            cast(Any, _read_blocks), batch_size=None, batch_format="pyarrow", **task_options
        )
    finally:
        with suppress(StorageError):  # at the first failure: a store that is away must not delay the end
            for url in block_urls:
                objects.delete(url)


def batches_of(dataset: ray.data.Dataset) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a dataset as they come, without any waiting in this process."""
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield cast(Any, batch).to_pylist()


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


def _read_blocks(named: Any) -> Any:
    return tables.read_blocks(named["url"].to_pylist())
