"""What a run leaves beside the pixels: metrics, rejects, run record and preview, from the ledger.

Last in the flow. The tables are made anew from the ledger each time, so a run that died before it
wrote them loses nothing.
"""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from cluster.archive.keys import KEYS, URLS, pair_keys
from cluster.archive.pair_index import PairIndex
from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import COLUMNS, Ledger
from cluster.fusing.output import Output
from cluster.fusing.plan import Fingerprint, Plan
from cluster.fusing.preview import make_preview
from cluster.fusing.report import MetricsSeen
from cluster.fusing.steps.rows import RANGES
from cluster.fusing.summary import Summary
from cluster.storage import objects, tables, urls
from cluster.storage.config_urls import without_secrets
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


def write_tables(
    output: Output, index: PairIndex, ledger: Ledger, plan: Plan, unmatched: list[Row]
) -> MetricsSeen:
    """Write metrics.parquet and rejected.parquet, slice by slice; return what people see of the metrics.

    The metrics hold the pairs of the whole index and those that left it and were not pruned, each with
    the fingerprint that it was made under; of the pairs of the index there is one fingerprint only. The
    URLs are written without what may be secret, and seen as the index has them.
    """
    kept = plan.gone[plan.gone["status"] == "fused"]
    seen = MetricsSeen(int((plan.current["status"] == "fused").sum()) + len(kept))
    metrics = seen.passing(_with_kept(output, _metrics(index, ledger, plan), ledger, kept))
    _replace_table(output.metrics, map(_without_secrets, metrics))
    refused = _with_index("rejected", REJECTED_COLUMNS, [], index, ledger, plan)
    without = tables.typed_frame(unmatched, dict.fromkeys(REJECTED_COLUMNS, "str"))
    _replace_table(output.rejected, map(_without_secrets, itertools.chain(refused, [without])))
    return seen


def see_metrics(index: PairIndex, ledger: Ledger, plan: Plan) -> MetricsSeen:
    """Return what people see of the metrics of a run that writes no tables."""
    seen = MetricsSeen(int((plan.current["status"] == "fused").sum()))
    for _ in seen.passing(_metrics(index, ledger, plan)):
        pass
    return seen


def write_preview(output: Output, seen: MetricsSeen, config: FuseConfig) -> None:
    """Write the picture of a few pairs, where any was fused."""
    picture = make_preview(
        seen.shown, output.store, range_policy=config.range_policy, max_pixels=config.max_pixels
    )
    if picture is not None:
        objects.put_bytes(output.preview, picture)


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
    record = {
        "run_id": run_id,
        "exit_reason": exit_reason,
        "seconds": round(seconds, 3),
        "counts": asdict(summary),
        "config": without_secrets(config),
        "fingerprint": {"digest": fingerprint.digest, **fingerprint.fields},
        "versions": {
            "dmnet-archive": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
        },
    }
    url = urls.join_url(output.runs, f"{run_id}.json")
    objects.put_bytes(url, json.dumps(record, indent=1).encode())


def _metrics(index: PairIndex, ledger: Ledger, plan: Plan) -> Iterator[pd.DataFrame]:
    """Yield the metrics table's rows of pairs in the index; first a frame without rows."""
    carried = [name for name in index.empty if name not in {*METRICS_COLUMNS, *KEYS}]
    return _with_index("fused", METRICS_COLUMNS, carried, index, ledger, plan)


def _with_index(
    status: str, columns: list[str], carried: list[str], index: PairIndex, ledger: Ledger, plan: Plan
) -> Iterator[pd.DataFrame]:
    """Yield the rows of a status with the URLs and the carried columns of their pairs, in their order.

    The first frame has no rows.
    """
    entries = plan.current[plan.current["status"] == status]
    found = ledger.slices(entries)
    rows = ledger.rows(entries.iloc[:0])
    for pairs in itertools.chain([index.empty], index.slices(entries["position"])):
        while len(rows) < len(pairs):
            rows = pd.concat([rows, next(found)], ignore_index=True)
        known = rows[[name for name in columns if name not in URLS]].iloc[: len(pairs)]
        yield pd.concat([known, pairs[[*URLS, *carried]]], axis=1)[[*columns, *carried]]
        rows = rows.iloc[len(pairs) :].reset_index(drop=True)


def _with_kept(
    output: Output, frames: Iterator[pd.DataFrame], ledger: Ledger, kept: pd.DataFrame
) -> Iterator[pd.DataFrame]:
    """Yield the metrics, then those of pairs that left the index, with what the table before has of them.

    Raises:
        ValueError: a carried column has another type there.
    """
    if not len(kept):
        yield from frames
        return
    known = [name for name in METRICS_COLUMNS if name in COLUMNS]
    before = _table_before(output.metrics, kept)
    beside = before.drop(columns=[name for name in known if name in before and name != "pair_id"])
    first = next(frames)
    try:
        columns = tables.joint_columns([first, beside])
    except ValueError as error:
        raise ValueError(
            f"the index has another type of column than {urls.redact_url(output.metrics)!r} for pairs "
            f"that left it ({error}), expected one: give the index's column that type, or remove these "
            "pairs with --prune"
        ) from error
    for frame in itertools.chain([first], frames):
        yield tables.fitted(frame, columns)
    for rows in ledger.slices(kept):
        yield tables.fitted(rows[known].merge(beside, on="pair_id", how="left"), columns)


def _table_before(url: str, kept: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that a metrics table has of the pairs of some ledger entries, each pair once."""
    stored = tables.read_slices(url)
    if stored is None:
        return pd.DataFrame({"pair_id": pd.Series(dtype="str")})
    frames = [frame[np.isin(pair_keys(frame), kept["pair"])] for frame in stored]
    # A run that died while it replaced the table may have left a pair in two parts.
    return pd.concat(frames, ignore_index=True).drop_duplicates("pair_id", keep="last")


def _without_secrets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose URLs have no user, password and query."""
    shown = {name: list(map(urls.redact_url, frame[name].fillna("").to_numpy())) for name in URLS}
    return frame.assign(**{name: pd.Series(found, frame.index, "str") for name, found in shown.items()})


def _replace_table(folder_url: str, frames: Iterable[pd.DataFrame]) -> None:
    """Make frames all of a table's folder: its one part in one put, so that no reader sees two."""
    tables.write_slices(urls.join_url(folder_url, TABLE_PART), frames)
    for file in objects.list_parts(folder_url):
        if file.path != TABLE_PART:  # of an earlier version, whose parts bore the run's name
            objects.delete(file.url)
