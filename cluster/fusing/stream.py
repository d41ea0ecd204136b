"""The rows of a run through its steps on Ray Data.

    pairs and windows   read_window -> FuseWindows -> write_window
    stored windows      score_window
    scenes              finish_scene
"""

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
from cluster.fusing.steps.score import finish_scene, score_window
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
COMPUTING = TASKS | {"num_cpus": 1}
"""Ray's options of the tasks that score and finish."""


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


class Stages:
    """The steps of a run on Ray Data: rows of DuckDB go in, rows for the ledger come out."""

    def __init__(
        self,
        database: Database,
        config: FuseConfig,
        output: Output,
        run_id: str,
        fingerprint: Fingerprint,
        halo: int,
        cluster_cpus: float,
    ) -> None:
        """Take what all stages share.

        Args:
            database: holds the tables that `make_plan` leaves.
            config: configuration of the run.
            output: URLs of the output.
            run_id: name of the run, in the URLs of the rows that wait.
            fingerprint: fingerprint of the run, which every ledger row bears.
            halo: pixels around a window with which it is fused.
            cluster_cpus: number of CPUs of the cluster that this process has joined.
        """
        self.database = database
        self.config = config
        self.output = output
        self.run_id = run_id
        self.fingerprint = fingerprint
        self.cluster_cpus = cluster_cpus
        self.attempts = SharedAttempts()
        self.opening = config.opening(halo)

    def fused(self, query: str) -> Generator[list[Row], None, None]:
        """Send pairs or windows through the three steps; yield ledger rows as they come.

        Args:
            query: rows with __row and window, and of a scene's window the columns of its survey.
        """
        config = self.config
        with self._dataset(query, config.batch_size, config.num_actors) as rows:
            yield from _early(
                rows.map(cast(Any, read_window), fn_kwargs=self._read_options(), **TASKS)
                .map_batches(
                    FuseWindows,
                    fn_constructor_kwargs=self._fuse_options(),
                    batch_size=config.batch_size,
                    compute=ray.data.ActorPoolStrategy(size=config.num_actors),
                    num_cpus=actor_claim(self.cluster_cpus, config.num_actors, actor_cpus(config)),
                    num_gpus=config.gpus_per_actor or None,
                )
                .map(cast(Any, write_window), fn_kwargs=self._write_options(), **TASKS)
            )

    def scored(self, query: str) -> Generator[list[Row], None, None]:
        """Put the sums of stored windows; yield ledger rows as they come."""
        yield from self._mapped(query, score_window)

    def finished(self, query: str) -> Generator[list[Row], None, None]:
        """Finish scenes; yield ledger rows as they come."""
        yield from self._mapped(query, finish_scene)

    def _mapped(self, query: str, step: Any) -> Generator[list[Row], None, None]:
        with self._dataset(query, 1, None) as rows:
            yield from batches_of(rows.map(step, fn_kwargs=self._write_options(), **COMPUTING))

    def _dataset(self, query: str, least_per_block: int, num_workers: int | None) -> Any:
        columns = ", ".join(f"p.{name}" for name in (*SOURCE, *URLS))
        return dataset_of(
            self.database,
            f"select {columns}, q.* exclude (__row) from ({query}) q join pairs p using (__row) "
            'order by __row, q."window"',
            self.output.todo(self.run_id),
            least_per_block=least_per_block,
            num_workers=num_workers,
            **(TASKS if num_workers else COMPUTING),
        )

    def _read_options(self) -> dict[str, Any]:
        return {"opening": self.opening, "attempts": self.attempts}

    def _fuse_options(self) -> dict[str, Any]:
        config = self.config
        return {
            "checkpoint_url": config.checkpoint_url,
            "preset": config.preset,
            "digest": self.fingerprint.fields["weights"],
            "device": "cuda" if config.on_cuda else "cpu",
            "num_threads": config.cpus_per_actor,
            "opening": self.opening,
            "statistics_url": self.output.statistics,
            "reading": config.reading,
            "output_dtype": config.output_dtype,
            "precision": config.precision,
            "seed": SEED,
            "attempts": self.attempts,
        }

    def _write_options(self) -> dict[str, Any]:
        return {
            "store_url": self.output.store,
            "statistics_url": self.output.statistics,
            "fingerprint": self.fingerprint.digest,
            "opening": self.opening,
            "attempts": self.attempts,
        }


def _early(rows: ray.data.Dataset) -> Generator[list[Row], None, None]:
    """Yield the rows of a dataset, of whose actors nothing is said until they are there."""
    batches = batches_of(rows)
    with without_restart_lines():
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
