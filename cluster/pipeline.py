"""The main job: index, plan, three steps on Ray Data, ledger, and the tables made of it.

    load_index - read_ledger -> make_plan -> read_window -> FuseWindows -> write_window -> ledger
                                                                 -> metrics, rejected, run, preview
"""

from __future__ import annotations

import json
import platform
import secrets
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import ray.data

from cluster import report, storage
from cluster.config import FuseConfig
from cluster.ledger import LedgerWriter, read_ledger, replace_parts, typed_frame
from cluster.pair_index import load_index
from cluster.plan import (
    KEYS,
    SEED,
    URLS,
    Fingerprint,
    Plan,
    check_fingerprint,
    make_fingerprint,
    make_plan,
)
from cluster.session import actor_claim, ray_session
from cluster.steps import METRICS, RANGES, FuseWindows, read_window, write_window
from dmnet_core.checkpoint import Checkpoint, load_checkpoint
from dmnet_core.ranges import check_range_policy

MAX_BLOCKS = 4000
READ_CPUS = 0.5
"""Of one read task: it waits for storage half its time. Being unlike the actors' share, it also
keeps Ray Data from moving the reading into the actors."""
VERSIONED = ("dmnet-archive", "ray", "torch", "zarr", "numpy", "pillow")
REJECTED_COLUMNS = ["pair_id", "reason", "detail", *URLS]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended."""

    num_pairs: int
    """In the index, those without partner included."""
    num_fused: int
    """Of these, fused now or before."""
    num_rejected: int
    """Of these, rejected now or before."""
    reasons: dict[str, int]
    """Rejected pairs by reason."""
    problem: str = ""
    """Why the job must not count as a success; empty where it may."""


@dataclass(frozen=True)
class _Output:
    """The URLs below --output."""

    url: str

    def __getattr__(self, name: str) -> str:
        names = {
            "store": "fused.zarr",
            "ledger": "ledger",
            "metrics": "metrics.parquet",
            "rejected": "rejected.parquet",
            "preview": "preview.png",
            "runs": "runs",
        }
        return storage.join_url(self.url, names[name])


def fuse_archive(config: FuseConfig) -> Summary:
    """Fuse every pair of an archive that is not done yet, and write every output.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong; one line, nothing was written.
    """
    start = time.monotonic()
    config = _absolute(config)
    check_range_policy(config.range_policy)
    output = _Output(config.output_url)
    index, unmatched_rows = load_index(config)
    unmatched = _without_partner(unmatched_rows)
    checkpoint = _load_checkpoint(config)
    fingerprint = make_fingerprint(checkpoint, config)
    stored = storage.read_store_attributes(output.store)
    ledger = read_ledger(output.ledger)
    if not config.reprocess:
        check_fingerprint(stored, ledger, fingerprint, config.output_url)
    plan = make_plan(index, ledger, fingerprint.digest, config.limit)
    report.print_plan(plan, len(unmatched))
    if config.dry_run:
        return _account(plan, unmatched, config, check=False)
    attributes = _store_attributes(checkpoint, fingerprint)
    if stored != attributes:
        storage.create_store(output.store, attributes)
    run = _Run(config, output, fingerprint, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{_token()}")
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
        now = make_plan(index, read_ledger(output.ledger), fingerprint.digest, config.limit)
        summary = _account(now, unmatched, config, check=exit_reason == "finished")
        run.write_record(summary, exit_reason, time.monotonic() - start)
    metrics = run.write_tables(index, now, unmatched, preview=bool(len(plan.todo)))
    _print_summary(summary, output, metrics, time.monotonic() - start)
    return summary


class _Run:
    """One submission: its name, and what it writes."""

    def __init__(
        self, config: FuseConfig, output: _Output, fingerprint: Fingerprint, run_id: str
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
        with ray_session(config.ray_address, wanted * config.num_actors) as cluster_cpus:
            claim = actor_claim(cluster_cpus, config.num_actors, wanted)
            rows = self._dataset(todo, claim)
            try:
                for batch in rows.iter_batches(
                    batch_size=None, prefetch_batches=0, batch_format="pyarrow"
                ):
                    done = batch.to_pylist()
                    ledger.append(done)
                    progress.add(len(done), sum(row["status"] == "rejected" for row in done))
            finally:
                ledger.flush()
                progress.close()

    def _dataset(self, todo: pd.DataFrame, actor_cpus: float) -> ray.data.Dataset:
        config = self.config
        rows = todo[[*KEYS, *URLS]].assign(
            window=0, zarr_path=[storage.escape_pair_id(name) for name in todo["pair_id"]]
        )
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
            .map(read_window, fn_kwargs={"max_pixels": config.max_pixels}, num_cpus=READ_CPUS)
            .map_batches(
                FuseWindows,
                fn_constructor_kwargs=actor_options,
                batch_size=config.batch_size,
                compute=ray.data.ActorPoolStrategy(size=config.num_actors),
                num_cpus=actor_cpus,
                num_gpus=config.gpus_per_actor or None,
            )
            .map(
                write_window,
                fn_kwargs={
                    "store_url": self.output.store,
                    "fingerprint": self.fingerprint.digest,
                },
                num_cpus=READ_CPUS,
            )
        )

    def write_tables(
        self, index: Any, plan: Plan, unmatched: pd.DataFrame, *, preview: bool
    ) -> pd.DataFrame:
        """Write metrics, rejects and preview from the ledger and the index; return the metrics."""
        fused, refused = (
            plan.current[plan.current["status"] == status].reset_index(drop=True)
            for status in ("fused", "rejected")
        )
        metrics, rejected = (_with_index(index, rows) for rows in (fused, refused))
        columns = [
            "pair_id", *METRICS, "height", "width", "bands", "dtype", *RANGES, "seconds",
            "zarr_path", *URLS, *_carried(index),
        ]  # fmt: skip
        replace_parts(self.output.metrics, self.run_id, metrics[columns])
        rejected = pd.concat([rejected[REJECTED_COLUMNS], unmatched], ignore_index=True)
        replace_parts(self.output.rejected, self.run_id, rejected)
        if preview or not storage.exists(self.output.preview):
            picture = report.make_preview(
                metrics,
                self.output.store,
                range_policy=self.config.range_policy,
                max_pixels=self.config.max_pixels,
            )
            if picture is not None:
                storage.put_bytes(self.output.preview, picture)
        return metrics

    def write_record(self, summary: Summary, exit_reason: str, seconds: float) -> None:
        """Write OUT/runs/<run_id>.json."""
        config = {
            name: storage.redact_url(value) if name.endswith("_url") and value else value
            for name, value in asdict(self.config).items()
        }
        record = {
            "run_id": self.run_id,
            "exit_reason": exit_reason,
            "seconds": round(seconds, 3),
            "counts": asdict(summary),
            "config": config,
            "fingerprint": {"digest": self.fingerprint.digest, **self.fingerprint.fields},
            "versions": _versions(),
        }
        url = storage.join_url(self.output.runs, f"{self.run_id}.json")
        storage.put_bytes(url, json.dumps(record, indent=1).encode())
