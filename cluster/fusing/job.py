"""The main job: index, plan, three steps on Ray Data, ledger.

    open_index - read_ledger -> make_plan -> read_window -> FuseWindows -> write_window -> ledger

All of it under the lease on the output, which one run holds at a time. What is made of the ledger in
the end (metrics, rejects, run record, preview) is in results.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from cluster.archive.keys import KEYS, URLS
from cluster.archive.pair_index import PairIndex, open_index
from cluster.fusing import report, results
from cluster.fusing.config import FuseConfig
from cluster.fusing.lease import Lease, LeaseLost
from cluster.fusing.ledger import LedgerWriter, read_ledger
from cluster.fusing.output import Output
from cluster.fusing.plan import (
    LOST,
    SEED,
    Fingerprint,
    Plan,
    check_fingerprint,
    make_fingerprint,
    make_plan,
    valid_since,
)
from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import read_window
from cluster.fusing.steps.write import write_window
from cluster.fusing.summary import Summary, judge, summarise
from cluster.storage import fused_store, objects, tables, urls
from cluster.text import units
from cluster.text.plain_text import one_line
from cluster.text.run_log import RunLog
from dmnet_core import __version__
from dmnet_core.checkpoint import Checkpoint, load_checkpoint
from dmnet_core.inference import memory_bytes
from dmnet_core.model import DMNet
from dmnet_core.ranges import check_range_policy

if TYPE_CHECKING:
    import ray.data

REJECTED_FIELDS = ("pair_id", "reason", "detail")
PROCESS_BYTES = 500_000_000
"""Of a process that holds PyTorch, Ray and nothing else."""
READ_CPUS = 0.5
"""Of one read task: it waits for storage half its time. Being unlike the actors' share, it also
keeps Ray Data from moving the reading into the actors."""
OFF_THE_FUSERS = {"dmnet-role": "!fuser"}
"""Label of the nodes where reading and writing go, as long as these have room: CPUs beside a GPU are
dear. Ray itself places a task where its pixels are."""
ANYWHERE: list[dict[str, Any]] = [{"label_selector": {}}]


def fuse_archive(config: FuseConfig) -> Summary:
    """Fuse every pair of an archive that is not done yet, and write every output.

    Raises:
        LeaseHeld: another run writes the output; nothing was done.
        ValueError, OSError: an input, a setting or a URL is wrong, or storage fails; one line. The
            same command goes on from where the ledger stands.
    """
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    log = RunLog(run_id, as_json=config.log_format == "json")
    try:
        return _fuse_archive(_absolute(config), log)
    except (Exception, KeyboardInterrupt) as error:
        log.say("failed", error=one_line(error) or type(error).__name__)  # people read it from the job
        raise


def _fuse_archive(config: FuseConfig, log: RunLog) -> Summary:
    start = time.monotonic()
    tables.give_memory_back()
    check_range_policy(config.range_policy)
    output = Output(config.output_url)
    index, unmatched = _open_index(config)
    checkpoint = _load_checkpoint(config)
    fingerprint = make_fingerprint(checkpoint, config)
    lease = Lease(config.output_url, log, config.partition)
    run = _Run(config, output, checkpoint, fingerprint, lease, log)
    if config.dry_run:
        return summarise(run.plan(index, unmatched), unmatched)
    waited = run.lease.acquire(wait=config.wait)
    try:
        if waited:  # there may be other pairs by now
            index, unmatched = _open_index(config)
        plan = run.plan(index, unmatched)
        run.mark_store()
        now = run.work(plan, index, unmatched, start)
        summary = summarise(now, unmatched)
        summary = judge(summary, index, now, config.max_rejected)
        run.record(summary, "finished", start)
        if config.partition:  # other runs are at work: the tables are written by one over everything
            seen, written = results.see_metrics(index, run.ledger, now), {"fused": output.store}
        else:
            seen = results.write_tables(output, index, run.ledger, now, unmatched)
            written = output.urls()
            if len(plan.todo) or not objects.exists(output.preview):
                results.write_preview(output, seen, config)
        report.say_summary(log, summary, written, seen, time.monotonic() - start)
        return summary
    finally:
        run.lease.release()


class _Run:
    """One submission: what it was told, and what it writes under its lease."""

    def __init__(
        self,
        config: FuseConfig,
        output: Output,
        checkpoint: Checkpoint,
        fingerprint: Fingerprint,
        lease: Lease,
        log: RunLog,
    ) -> None:
        self.config = config
        self.output = output
        self.checkpoint = checkpoint
        self.fingerprint = fingerprint
        self.lease = lease
        self.log = log
        self.writer = LedgerWriter(output.ledger, lease.run_id)
        self.since = 0.0
        """Up to when no row of the ledger holds."""

    def plan(self, index: PairIndex, unmatched: list[dict[str, Any]]) -> Plan:
        """Return what is left to do, and say it.

        Raises:
            ValueError: the output was made with other settings, and may not be reprocessed.
        """
        self.read_ledger()
        entries = self.ledger.entries
        stored = fused_store.read_store_attributes(self.output.store)
        if not self.config.reprocess:
            own = entries[entries["own"]]
            check_fingerprint(stored, own, self.fingerprint, self.config.output_url)
        self.since = valid_since(stored, entries, self.fingerprint)
        latest = float(entries["recorded_at"].to_numpy().max(initial=0.0))
        self.writer.not_before = max(self.since, latest)
        if self.config.verify:
            self.ledger.entries = self.with_lost(entries)
        plan = self._subtract(index)
        memory = foretold_memory(self.checkpoint.model, self.config)
        report.say_plan(self.log, plan, len(unmatched), prune=self.config.prune, memory=memory)
        return plan

    def read_ledger(self) -> None:
        """Read the ledger as it is now."""
        self.ledger = read_ledger(self.output.ledger, self.config.partition)

    def mark_store(self) -> None:
        """Write on the store's root what its pixels are made with, where it does not say so yet."""
        attributes = {
            "fingerprint": self.fingerprint.fields,
            "ledger_since": self.since,
            "model_card": self.checkpoint.card,
            "software": f"dmnet-archive {__version__}",
        }
        if fused_store.read_store_attributes(self.output.store) != attributes:
            fused_store.create_store(self.output.store, attributes)

    def with_lost(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Return the entries with status LOST where the pixels are not in the store any more."""
        whole = fused_store.list_whole(self.output.store)
        fused = entries["own"] & (entries["status"] == "fused")
        gone = [~rows["zarr_path"].isin(whole).to_numpy() for rows in self.ledger.slices(entries[fused])]
        lost = fused.to_numpy().copy()
        lost[fused] = np.concatenate([np.zeros(0, bool), *gone])
        text = f"{len(whole)} whole arrays in the store; {lost.sum()} that the ledger holds are not there"
        self.log.say("verified", text, whole=len(whole), lost=int(lost.sum()))
        return entries.assign(status=entries["status"].cat.add_categories([LOST]).mask(lost, LOST))

    def work(
        self, plan: Plan, index: PairIndex, unmatched: list[dict[str, Any]], start: float
    ) -> Plan:
        """Do what the plan says; return the plan as it is then. A run that fails leaves its record."""
        if not len(plan.todo):
            text = "nothing left to do: every pair is in the ledger with these settings"
            self.log.say("nothing_to_do", text)
        try:
            self.say_status(plan.changed, "replacing")
            if self.config.prune and len(plan.gone):
                self.prune(plan.gone)
            if len(plan.todo):
                self.fuse(index, plan.todo)
            self.lease.check()
            if not len(plan.todo) and not (self.config.prune and len(plan.gone)):
                return plan
            self.read_ledger()
            return self._subtract(index)
        except urls.StorageError:
            raise  # there is nowhere to leave a record
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(OSError, ValueError):  # the first error counts
                self.read_ledger()
                self.record(summarise(self._subtract(index), unmatched), reason, start)
            raise

    def record(self, summary: Summary, exit_reason: str, start: float) -> None:
        """Write the run's record."""
        seconds = time.monotonic() - start
        results.write_record(
            self.output, self.lease.run_id, self.config, self.fingerprint, summary, exit_reason, seconds
        )

    def _subtract(self, index: PairIndex) -> Plan:
        entries = self.ledger.entries
        return make_plan(
            index.keys, entries[entries["own"]], self.fingerprint.digest, self.config.limit,
            retry_rejected=self.config.reprocess, since=self.since,
        )  # fmt: skip

    def prune(self, gone: pd.DataFrame) -> None:
        """Remove the pixels of pairs that left the index; the ledger says so before they go and after."""
        self.say_status(gone, "pruning")
        for rows in self.ledger.slices(gone):
            for zarr_path in rows["zarr_path"]:
                self.lease.check()
                fused_store.delete_fused(self.output.store, zarr_path)
        self.say_status(gone, "pruned")

    def say_status(self, entries: pd.DataFrame, status: str) -> None:
        """Have the ledger say what becomes of pixels that it holds: no kill leaves a wrong row then."""
        for rows in self.ledger.slices(entries):
            self.lease.check()
            self.writer.append(rows.assign(status=status).to_dict("records"))
        self.writer.flush()

    def fuse(self, index: PairIndex, todo: pd.DataFrame) -> None:
        """Send the pairs through the three steps, and their rows into the ledger."""
        config, writer = self.config, self.writer
        wanted = 1 if config.on_cuda else config.cpus_per_actor
        progress = report.Progress(len(todo), self.log)
        # Here, so that a run with nothing to do is done before Ray would be imported.
        from cluster.runtime.datasets import actor_claim
        from cluster.runtime.session import ray_session
        from cluster.runtime.telemetry import RunMetrics

        with ray_session(config.ray_address, wanted * config.num_actors) as cluster_cpus:
            claim = actor_claim(cluster_cpus, config.num_actors, wanted)
            ledger_rows = self._dataset(index, todo, claim)
            shown = RunMetrics(self.log.run_id, len(todo), config.num_actors)
            try:
                for batch in ledger_rows.iter_batches(
                    batch_size=None, prefetch_batches=0, batch_format="pyarrow"
                ):
                    done: list[dict[str, Any]] = cast(Any, batch).to_pylist()
                    self.lease.check()
                    lag_s = writer.lag_s
                    writer.append(done)
                    rejected = [row for row in done if row["status"] == "rejected"]
                    for row in rejected:
                        self.log.say("rejected", **{name: row[name] for name in REJECTED_FIELDS})
                    shown.add(done, lag_s)
                    progress.add(len(done), len(rejected))
            except LeaseLost:
                writer.forget()
                raise
            finally:
                writer.flush()
                progress.close()

    def _windows(self, index: PairIndex, todo: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Yield the rows that read_window takes."""
        for pairs in index.slices(todo["position"]):
            paths = [fused_store.escape_pair_id(name) for name in pairs["pair_id"]]
            yield pairs[[*KEYS, *URLS]].assign(window=0, zarr_path=paths)

    def _dataset(self, index: PairIndex, todo: pd.DataFrame, actor_cpus: float) -> ray.data.Dataset:
        import ray.data

        from cluster.fusing.shared_attempts import SharedAttempts
        from cluster.runtime.datasets import dataset_of

        config = self.config
        paths = (path for rows in self._windows(index, todo) for path in rows["zarr_path"])
        fused_store.create_parent_groups(self.output.store, paths)
        windows = self._windows(index, todo)
        attempts = SharedAttempts()
        actor_options = {
            "checkpoint_url": config.checkpoint_url,
            "digest": self.fingerprint.fields["weights"],
            "device": "cuda" if config.on_cuda else "cpu",
            "num_threads": config.cpus_per_actor,
            "range_policy": config.range_policy,
            "output_dtype": config.output_dtype,
            "precision": config.precision,
            "seed": SEED,
            "attempts": attempts,
        }
        read_options = {"max_pixels": config.max_pixels, "attempts": attempts}
        write_options = {
            "store_url": self.output.store,
            "fingerprint": self.fingerprint.digest,
            "attempts": attempts,
        }
        task_options: dict[str, Any] = {
            "num_cpus": READ_CPUS,
            "label_selector": OFF_THE_FUSERS,
            "fallback_strategy": ANYWHERE,
        }
        return (
            dataset_of(windows, len(todo), config.batch_size, config.num_actors, **task_options)
            .map(cast(Any, read_window), fn_kwargs=read_options, **task_options)
            .map_batches(
                FuseWindows,
                fn_constructor_kwargs=actor_options,
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(size=config.num_actors),
                num_cpus=actor_cpus,
                num_gpus=config.gpus_per_actor or None,
            )
            .map(cast(Any, write_window), fn_kwargs=write_options, **task_options)
        )


def foretold_memory(model: DMNet, config: FuseConfig) -> str:
    """Return what an actor on the CPU needs at most, in words; nothing for one on a GPU."""
    if config.on_cuda:
        return ""
    empty, most = actor_bytes(model, 0), actor_bytes(model, config.max_pixels)
    megapixel = actor_bytes(model, 1_000_000) - empty
    return (
        f"an actor needs {units.size(empty)} and {units.size(megapixel)} a megapixel of its largest "
        f"image: {units.size(most)} with one of --max-pixels"
    )


def actor_bytes(model: DMNet, num_pixels: int) -> int:
    """Return about the most memory that an actor's process takes with an image of a size, on a CPU."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return PROCESS_BYTES + weights + memory_bytes(model.config, num_pixels)


def _absolute(config: FuseConfig) -> FuseConfig:
    """Return the config with local paths absolute: a worker's folder is another."""
    names = ("output_url", "index_url", "ir_url", "vis_url", "checkpoint_url")
    given: dict[str, Any] = {name: getattr(config, name) for name in names}
    changed: Any = {name: urls.absolute_url(url) for name, url in given.items() if url}
    return replace(config, **changed)


def _open_index(config: FuseConfig) -> tuple[PairIndex, list[dict[str, Any]]]:
    return open_index(config.index_url, config.ir_url, config.vis_url, config.partition)


def _load_checkpoint(config: FuseConfig) -> Checkpoint:
    if config.checkpoint_url is None:
        return load_checkpoint()
    try:
        data = objects.read_bytes(config.checkpoint_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"--checkpoint {urls.redact_url(config.checkpoint_url)!r} is not there, expected a "
            ".safetensors file: check the URL, or leave it out for the shipped weights"
        ) from error
    try:
        return load_checkpoint(data)
    except ValueError as error:
        url = urls.redact_url(config.checkpoint_url)
        raise ValueError(f"--checkpoint {url!r}: {error}") from error
