"""What a run leaves beside the pixels: metrics, rejects, run record and preview, from the ledger.

Last in the flow. The tables are made anew from the ledger each time, so a run that died before it
wrote them loses nothing.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import pandas as pd

from cluster import report, storage
from cluster.config import FuseConfig
from cluster.plan import KEYS, URLS, Fingerprint, Plan
from cluster.steps import RANGES
from dmnet_core import __version__
from dmnet_core.metrics import METRICS

Row = dict[str, Any]
VERSIONED = ("ray", "torch", "zarr", "numpy", "pillow")
REJECTED_COLUMNS = ["pair_id", "reason", "detail", *URLS]
TABLE_PART = "part-000000.parquet"
METRICS_COLUMNS = [
    "pair_id", *METRICS, "height", "width", "bands", "dtype", *RANGES, "seconds", "zarr_path", *URLS,
    "fingerprint",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended, or how things stand before one."""

    num_pairs: int
    """In the run, those without partner included."""
    num_fused: int
    """Of these, fused now or before."""
    num_rejected: int
    """Of these, rejected now or before."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected pairs by reason."""
    problem: str = ""
    """Why the job must not count as a success; empty where it may."""


@dataclass(frozen=True)
class Output:
    """The URLs below --output."""

    url: str

    @property
    def store(self) -> str:
        """Zarr store of the fused images."""
        return storage.join_url(self.url, "fused.zarr")

    @property
    def ledger(self) -> str:
        """Folder of the ledger's parts."""
        return storage.join_url(self.url, "ledger")

    @property
    def metrics(self) -> str:
        """Folder of the metrics table."""
        return storage.join_url(self.url, "metrics.parquet")

    @property
    def rejected(self) -> str:
        """Folder of the table of rejects."""
        return storage.join_url(self.url, "rejected.parquet")

    @property
    def runs(self) -> str:
        """Folder of the run records."""
        return storage.join_url(self.url, "runs")

    @property
    def preview(self) -> str:
        """Picture of a few pairs."""
        return storage.join_url(self.url, "preview.png")

    def urls(self) -> dict[str, str]:
        """Return what a user opens."""
        return {
            "fused": self.store,
            "metrics": self.metrics,
            "rejected": self.rejected,
            "preview": self.preview,
        }


def summarise(plan: Plan, unmatched: list[Row]) -> Summary:
    """Count what the ledger and the unmatched names say about the pairs of a run."""
    current = plan.current[plan.current["position"] < len(plan.pairs)]
    refused = current[current["status"] == "rejected"]
    reasons = Counter(refused["reason"]) + Counter(row["reason"] for row in unmatched)
    return Summary(
        num_pairs=len(plan.pairs) + len(unmatched),
        num_fused=int((current["status"] == "fused").sum()),
        num_rejected=len(refused) + len(unmatched),
        reasons=dict(sorted(reasons.items())),
    )


def judge(summary: Summary, plan: Plan, max_rejected: float) -> Summary:
    """Return the summary of a finished run with its problem, where it has one."""
    num_left = summary.num_pairs - summary.num_fused - summary.num_rejected
    if num_left:
        recorded = set(plan.current["pair_id"])
        lost = [name for name in plan.pairs["pair_id"] if name not in recorded]
        example = f", for example {lost[0]!r}" if lost else ""
        problem = f"{num_left} pairs are neither fused nor rejected{example}: run the job again"
    elif summary.num_rejected > max_rejected * summary.num_pairs:
        share = summary.num_rejected / summary.num_pairs
        problem = f"{share:.2%} of the pairs were rejected, expected at most {max_rejected:.2%}"
    else:
        problem = ""
    return replace(summary, problem=problem)


def write_tables(
    output: Output, index: pd.DataFrame, plan: Plan, unmatched: list[Row]
) -> pd.DataFrame:
    """Write metrics.parquet and rejected.parquet; return the metrics.

    The metrics hold the pairs of the whole index and those that left it and were not pruned, each with
    the fingerprint that it was made under; of the pairs of the index there is one fingerprint only. The
    URLs are written without what may be secret, and returned as the index has them.
    """
    fused, refused = (
        _with_index(plan.current[plan.current["status"] == status], index)
        for status in ("fused", "rejected")
    )
    carried = [name for name in index if name not in {*METRICS_COLUMNS, *KEYS, *URLS}]
    metrics = fused[[*METRICS_COLUMNS, *carried]]
    kept = plan.gone[plan.gone["status"] == "fused"]
    if len(kept):
        before = storage.read_table(output.metrics)
        metrics = pd.concat([metrics, _with_table(kept, before)], ignore_index=True)
    _replace_table(output.metrics, _without_secrets(metrics))
    without = storage.typed_frame(unmatched, dict.fromkeys(REJECTED_COLUMNS, "str"))
    rejected = pd.concat([refused[REJECTED_COLUMNS], without], ignore_index=True)
    _replace_table(output.rejected, _without_secrets(rejected))
    return metrics


def write_preview(output: Output, metrics: pd.DataFrame, config: FuseConfig) -> None:
    """Write the picture of a few pairs, where any was fused."""
    picture = report.make_preview(
        metrics, output.store, range_policy=config.range_policy, max_pixels=config.max_pixels
    )
    if picture is not None:
        storage.put_bytes(output.preview, picture)


def write_record(
    output: Output,
    run_id: str,
    config: FuseConfig,
    fingerprint: Fingerprint,
    summary: Summary,
    exit_reason: str,
    seconds: float,
) -> None:
    """Write OUT/runs/<run_id>.json."""
    settings = {
        name: storage.redact_url(value) if name.endswith("_url") and value else value
        for name, value in asdict(config).items()
    }
    record = {
        "run_id": run_id,
        "exit_reason": exit_reason,
        "seconds": round(seconds, 3),
        "counts": asdict(summary),
        "config": settings,
        "fingerprint": {"digest": fingerprint.digest, **fingerprint.fields},
        "versions": {
            "dmnet-archive": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
        },
    }
    url = storage.join_url(output.runs, f"{run_id}.json")
    storage.put_bytes(url, json.dumps(record, indent=1).encode())


def _with_index(rows: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Return ledger rows with the URLs and the carried columns of their pairs."""
    beside = index.drop(columns=[name for name in index if name in rows])
    taken = beside.iloc[rows["position"].to_numpy()].reset_index(drop=True)
    return pd.concat([rows.reset_index(drop=True), taken], axis=1)


def _with_table(rows: pd.DataFrame, before: pd.DataFrame | None) -> pd.DataFrame:
    """Return ledger rows with what the metrics table of an earlier run knows of their pairs besides."""
    known = [name for name in METRICS_COLUMNS if name in rows]
    if before is None:
        return rows[known].assign(**dict.fromkeys(URLS, ""))
    # A run that died while it replaced the table may have left a pair in two parts.
    before = before.drop_duplicates("pair_id", keep="last")
    beside = before.drop(columns=[name for name in known if name in before and name != "pair_id"])
    return rows[known].merge(beside, on="pair_id", how="left")


def _without_secrets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose URLs have no user, password and query."""
    urls = {name: frame[name].fillna("").map(storage.redact_url) for name in URLS}
    return frame.assign(**urls)


def _replace_table(folder_url: str, frame: pd.DataFrame) -> None:
    """Make a frame all of a table's folder: its one part in one put, so that no reader sees two."""
    storage.write_table(storage.join_url(folder_url, TABLE_PART), frame)
    for file in storage.list_parts(folder_url):
        if file.path != TABLE_PART:  # of an earlier version, whose parts bore the run's name
            storage.delete(file.url)
