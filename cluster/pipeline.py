"""The main job: index, plan, three steps on Ray Data, ledger.

    load_index - read_ledger -> make_plan -> read_window -> FuseWindows -> write_window -> ledger

What is made of the ledger in the end (metrics, rejects, run record, preview) is in results.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from cluster import report, results, storage
from cluster.config import FuseConfig
from cluster.ledger import LedgerWriter, read_ledger
from cluster.pair_index import load_index
from cluster.plan import (
    KEYS,
    SEED,
    URLS,
    Fingerprint,
    check_fingerprint,
    make_fingerprint,
    make_plan,
)
from cluster.results import Output, Summary
from cluster.steps import FuseWindows, read_window, write_window
from dmnet_core import __version__
from dmnet_core.checkpoint import Checkpoint, load_checkpoint
from dmnet_core.ranges import check_range_policy

if TYPE_CHECKING:
    import ray.data

MAX_BLOCKS = 4000
READ_CPUS = 0.5
"""Of one read task: it waits for storage half its time. Being unlike the actors' share, it also
keeps Ray Data from moving the reading into the actors."""


def fuse_archive(config: FuseConfig) -> Summary:
    """Fuse every pair of an archive that is not done yet, and write every output.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong; one line, no pixel was written.
    """
    start = time.monotonic()
    config = _absolute(config)
    check_range_policy(config.range_policy)
    output = Output(config.output_url)
    index, unmatched = load_index(config.index_url, config.ir_url, config.vis_url)
    checkpoint = _load_checkpoint(config)
    fingerprint = make_fingerprint(checkpoint, config)
    stored = storage.read_store_attributes(output.store)
    ledger = read_ledger(output.ledger)
    if not config.reprocess:
        check_fingerprint(stored, ledger, fingerprint, config.output_url)
    plan = make_plan(index, ledger, fingerprint.digest, config.limit)
    report.print_plan(plan, len(unmatched))
    if config.dry_run:
        return results.summarise(plan, unmatched)
    if stored != (attributes := _store_attributes(checkpoint, fingerprint)):
        storage.create_store(output.store, attributes)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    run = _Run(config, output, fingerprint, run_id)
    exit_reason = "failed"
    try:
        if len(plan.todo):
            run.fuse(plan.todo)
        else:
            print("nothing left to do: every pair is in the ledger with these settings")
        exit_reason = "finished"
    except KeyboardInterrupt:
        exit_reason = "interrupted"
        raise
    finally:
        now = plan
        if len(plan.todo):
            now = make_plan(index, read_ledger(output.ledger), fingerprint.digest, config.limit)
        summary = results.summarise(now, unmatched)
        if exit_reason == "finished":
            summary = results.judge(summary, now, config.max_rejected)
        results.write_record(
            output, run.run_id, config, fingerprint, summary, exit_reason, time.monotonic() - start
        )
    metrics = results.write_tables(output, run.run_id, index, now, unmatched)
    if len(plan.todo) or not storage.exists(output.preview):
        results.write_preview(output, metrics, config)
    report.print_summary(summary, output.urls(), metrics, time.monotonic() - start)
    return summary


class _Run:
    """One submission: its name, and what it writes."""

    def __init__(
        self, config: FuseConfig, output: Output, fingerprint: Fingerprint, run_id: str
    ) -> None:
        self.config = config
        self.output = output
        self.fingerprint = fingerprint
        self.run_id = run_id

    def fuse(self, todo: pd.DataFrame) -> None:
        """Send the pairs through the three steps, and their rows into the ledger."""
        config = self.config
        wanted = config.cpus_per_actor if config.gpus_per_actor == 0 else 1
        ledger = LedgerWriter(self.output.ledger, self.run_id)
        progress = report.Progress(len(todo))
        rows = todo[[*KEYS, *URLS]].assign(
            window=0, zarr_path=[storage.escape_pair_id(name) for name in todo["pair_id"]]
        )
        storage.create_parent_groups(self.output.store, rows["zarr_path"])
        # Here, so that a run with nothing to do is done before Ray would be imported.
        from cluster.session import actor_claim, ray_session

        with ray_session(config.ray_address, wanted * config.num_actors) as cluster_cpus:
            claim = actor_claim(cluster_cpus, config.num_actors, wanted)
            ledger_rows = self._dataset(rows, claim)
            try:
                for batch in ledger_rows.iter_batches(
                    batch_size=None, prefetch_batches=0, batch_format="pyarrow"
                ):
                    done: list[dict[str, Any]] = cast(Any, batch).to_pylist()
                    ledger.append(done)
                    progress.add(len(done), sum(row["status"] == "rejected" for row in done))
            finally:
                ledger.flush()
                progress.close()

    def _dataset(self, rows: pd.DataFrame, actor_cpus: float) -> ray.data.Dataset:
        import ray.data

        config = self.config
        per_block = max(config.batch_size, -(-len(rows) // MAX_BLOCKS))
        blocks = [rows.iloc[i : i + per_block] for i in range(0, len(rows), per_block)]
        actor_options = {
            "checkpoint_url": config.checkpoint_url,
            "digest": self.fingerprint.fields["weights"],
            "device": "cuda" if config.gpus_per_actor else "cpu",
            "num_threads": config.cpus_per_actor,
            "range_policy": config.range_policy,
            "output_dtype": config.output_dtype,
            "precision": config.precision,
            "seed": SEED,
        }
        return (
            ray.data.from_pandas(blocks)
            .map(cast(Any, read_window), fn_kwargs={"max_pixels": config.max_pixels}, num_cpus=READ_CPUS)
            .map_batches(
                FuseWindows,
                fn_constructor_kwargs=actor_options,
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(size=config.num_actors),
                num_cpus=actor_cpus,
                num_gpus=config.gpus_per_actor or None,
            )
            .map(
                cast(Any, write_window),
                fn_kwargs={
                    "store_url": self.output.store,
                    "fingerprint": self.fingerprint.digest,
                },
                num_cpus=READ_CPUS,
            )
        )


def _absolute(config: FuseConfig) -> FuseConfig:
    """Return the config with local paths absolute: a worker's folder is another."""
    names = ("output_url", "index_url", "ir_url", "vis_url", "checkpoint_url")
    given: dict[str, Any] = {name: getattr(config, name) for name in names}
    changed: Any = {name: storage.absolute_url(url) for name, url in given.items() if url}
    return replace(config, **changed)


def _load_checkpoint(config: FuseConfig) -> Checkpoint:
    if config.checkpoint_url is None:
        return load_checkpoint()
    try:
        data = storage.read_bytes(config.checkpoint_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"--checkpoint {storage.redact_url(config.checkpoint_url)!r} is not there, expected a "
            ".safetensors file: check the URL, or leave it out for the shipped weights"
        ) from error
    try:
        return load_checkpoint(data)
    except ValueError as error:
        url = storage.redact_url(config.checkpoint_url)
        raise ValueError(f"--checkpoint {url!r}: {error}") from error


def _store_attributes(checkpoint: Checkpoint, fingerprint: Fingerprint) -> dict[str, object]:
    return {
        "fingerprint": fingerprint.fields,
        "model_card": checkpoint.card,
        "software": f"dmnet-archive {__version__}",
    }
