"""The pairs of a run through the three steps on Ray Data: read_window -> FuseWindows -> write_window."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import ray.data

from cluster.archive.pair_index import SOURCE, URLS
from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import HAS_LEDGER_ROW
from cluster.fusing.output import Output
from cluster.fusing.plan import SEED, Fingerprint
from cluster.fusing.shared_attempts import SharedAttempts
from cluster.fusing.steps.compare import compare_bytes
from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import read_window
from cluster.fusing.steps.write import write_window
from cluster.runtime.datasets import actor_claim, batches_of, dataset_of
from cluster.runtime.quiet import without_restart_lines
from cluster.storage import fused_store
from cluster.storage.tables import Database

Row = dict[str, Any]
READ_CPUS = 0.5
"""CPUs that one read task reserves: it waits for storage half of its time. Since this differs from what
an actor reserves, Ray Data does not move the reading into the actors."""
NOT_ON_FUSERS = {"dmnet-role": "!fuser"}
"""Label of the nodes where reading and writing run as long as these have room: CPUs beside a GPU are
dear. Without the label, Ray runs a task on the node that holds its pixels."""
ANY_NODE: list[dict[str, Any]] = [{"label_selector": {}}]
"""Node labels for reading and writing where no node without a fuser has room: any."""
PAIRS_PER_BLOCK = 32
"""Least number of pairs whose bytes one task compares."""
TASKS: dict[str, Any] = {
    "num_cpus": READ_CPUS,
    "label_selector": NOT_ON_FUSERS,
    "fallback_strategy": ANY_NODE,
}
"""Ray's options of the tasks that read and write."""


def actor_cpus(config: FuseConfig) -> int:
    """Return the CPUs that one actor asks for."""
    return 1 if config.on_cuda else config.cpus_per_actor


def create_groups(database: Database, store_url: str) -> None:
    """Write the store's groups between its root and the pairs of the table `todo`."""
    parents = database.frame(
        "select distinct regexp_extract(pair_id, '^(.*)/', 1, 's') as parent from pairs "
        "semi join todo using (__row) where contains(pair_id, '/')"
    )
    fused_store.create_groups(store_url, map(fused_store.escape_pair_id, parents["parent"]))


def fused(
    database: Database,
    config: FuseConfig,
    output: Output,
    run_id: str,
    fingerprint: Fingerprint,
    cluster_cpus: float,
) -> Generator[list[Row], None, None]:
    """Send the pairs of the table `todo` through the three steps; yield ledger rows as they come.

    Args:
        database: holds the tables that `make_plan` leaves.
        config: configuration of the run.
        output: URLs of the output, whose store receives the pixels.
        run_id: name of the run, in the URLs of the rows that wait.
        fingerprint: fingerprint of the run, which every ledger row bears.
        cluster_cpus: number of CPUs of the cluster that this process has joined.
    """
    read_options, fuse_options, write_options = _step_options(config, output, fingerprint)
    columns = ", ".join((*SOURCE, *URLS))
    with dataset_of(
        database,
        f'select {columns}, 0::bigint as "window" from pairs semi join todo using (__row) order by __row',
        output.todo(run_id),
        least_per_block=config.batch_size,
        num_workers=config.num_actors,
        **TASKS,
    ) as pairs:
        rows = (
            pairs.map(cast(Any, read_window), fn_kwargs=read_options, **TASKS)
            .map_batches(
                FuseWindows,
                fn_constructor_kwargs=fuse_options,
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(size=config.num_actors),
                num_cpus=actor_claim(cluster_cpus, config.num_actors, actor_cpus(config)),
                num_gpus=config.gpus_per_actor or None,
            )
            .map(cast(Any, write_window), fn_kwargs=write_options, **TASKS)
        )
        batches = batches_of(rows)
        with without_restart_lines():  # until the actors are there
            first = next(batches, None)
        yield from [] if first is None else [first]
        yield from batches


def compared(database: Database, output: Output, run_id: str) -> Generator[list[Row], None, None]:
    """Read the files of the table `to_compare`; yield rows of `compare_bytes` as they come."""
    with dataset_of(
        database,
        "select p.pair_id, ir_url, vis_url, l.ir_digest, l.vis_digest from to_compare c join pairs p "
        f"using (__row) join ledger l on {HAS_LEDGER_ROW.format('c')} order by __row",
        output.todo(run_id),
        least_per_block=PAIRS_PER_BLOCK,
        **TASKS,
    ) as pairs:
        yield from batches_of(pairs.map(cast(Any, compare_bytes), **TASKS))


def _step_options(
    config: FuseConfig, output: Output, fingerprint: Fingerprint
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the keyword arguments of the three steps, which share the counts of attempts."""
    attempts = SharedAttempts()
    read_options = {
        "max_pixels": config.max_pixels,
        "temperatures": config.temperatures,
        "resample": config.resample,
        "attempts": attempts,
    }
    fuse_options = {
        "checkpoint_url": config.checkpoint_url,
        "digest": fingerprint.fields["weights"],
        "device": "cuda" if config.on_cuda else "cpu",
        "num_threads": config.cpus_per_actor,
        "reading": config.reading,
        "output_dtype": config.output_dtype,
        "precision": config.precision,
        "seed": SEED,
        "attempts": attempts,
    }
    write_options = {
        "store_url": output.store,
        "fingerprint": fingerprint.digest,
        "attempts": attempts,
    }
    return read_options, fuse_options, write_options
