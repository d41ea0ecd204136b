"""The ledger: which windows are done, in Parquet parts below OUT/ledger/.

The driver alone writes it: one whole part at a time, put again with more rows until it has ROWS_PER_PART,
so that a slow run leaves few parts too. Rows are never changed; of several rows of one window the latest
counts. What its status says:

    fused, rejected    done; the row is written after the pixels are stored, or removed
    replacing          other pixels may stand there by now, or none
    pruning, pruned    the pixels of a pair that left the index are going, are gone
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import union_categoricals

from cluster.archive.keys import KEYS, pair_keys, partition_of, source_keys
from cluster.fusing.steps.rows import RANGES
from cluster.storage import objects, tables, urls
from dmnet_core.metrics import METRICS

Row = dict[str, Any]

COLUMNS = {
    "pair_id": "str",
    "window": "int64",
    "status": "str",
    "reason": "str",
    "detail": "str",
    "fingerprint": "str",
    "ir_size": "int64",
    "ir_etag": "str",
    "vis_size": "int64",
    "vis_etag": "str",
    "zarr_path": "str",
    "height": "int64",
    "width": "int64",
    "bands": "int64",
    "dtype": "str",
    **dict.fromkeys(RANGES, "float64"),
    **dict.fromkeys(METRICS, "float64"),
    "read_bytes": "int64",
    "written_bytes": "int64",
    "seconds": "float64",
    "run_id": "str",
    "recorded_at": "float64",
}
"""Every column and its type; sizes unknown to the index are -1, its etags empty."""

TEXTS = ["status", "reason", "fingerprint"]
"""Columns of few values."""
ENTRY = [*TEXTS, "window", "written_bytes", "recorded_at"]
"""Columns that the plan needs of every row as they are."""
READS_PER_PART = 4
"""Times that a part is read, on average; where its rows lie far apart in the index, more are held."""
ROWS_PER_PART = 1000
SECONDS_PER_PART = 10.0


class LedgerWriter:
    """Collects rows and puts their part, every SECONDS_PER_PART and when it has ROWS_PER_PART."""

    def __init__(self, ledger_url: str, run_id: str) -> None:
        self.ledger_url = ledger_url
        self.run_id = run_id
        self.rows: list[Row] = []
        """Of the present part."""
        self.num_put = 0
        """Of these, in the ledger already."""
        self.num_parts = 0
        self.last_put = time.monotonic()
        self.oldest = 0.0
        self.not_before = 0.0
        """The time that the latest row bears, also of earlier runs: its clock may have been ahead."""

    @property
    def lag_s(self) -> float:
        """Seconds since the oldest row came that is not put yet; 0 where there is none."""
        return time.monotonic() - self.oldest if len(self.rows) > self.num_put else 0.0

    def append(self, rows: list[Row]) -> None:
        """Take rows of `write_window`, and put the part where that is due."""
        recorded_at = max(time.time(), self.not_before + 1e-3)
        if len(self.rows) == self.num_put:
            self.oldest = time.monotonic()
        self.not_before = recorded_at
        self.rows += [row | {"run_id": self.run_id, "recorded_at": recorded_at} for row in rows]
        due = time.monotonic() - self.last_put > SECONDS_PER_PART
        if len(self.rows) >= ROWS_PER_PART or due:
            self.flush()

    def flush(self) -> None:
        """Put the part with all rows that it has by now, over what was put of it before."""
        if len(self.rows) > self.num_put:
            part_url = urls.join_url(
                self.ledger_url, f"part-{self.run_id}-{self.num_parts:06d}.parquet"
            )
            self.num_put = len(self.rows)  # tried once: a run that can't write its ledger ends
            tables.write_table(part_url, tables.typed_frame(self.rows, COLUMNS))
            if len(self.rows) >= ROWS_PER_PART:
                self.rows, self.num_put = [], 0
                self.num_parts += 1
        self.last_put = time.monotonic()

    def forget(self) -> None:
        """Drop the rows that are not in the ledger: the output is another run's."""
        self.rows = self.rows[: self.num_put]


class Ledger:
    """The latest row of every window: what a plan needs of each, and where the whole row is.

    An entry is some sixty bytes; whole rows are read again where they are needed.
    """

    def __init__(self, parts: list[str], entries: pd.DataFrame) -> None:
        self.parts = parts
        """URLs of the ledger's files."""
        self.entries = entries
        """ENTRY; `pair` and `source`, of `keys`; `own`: the row is of the run's partition; `part`
        and `row`: where the whole row is."""

    def rows(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Return the whole rows of some entries, in their order."""
        places = entries.groupby("part", sort=False)["row"]
        part_urls = [self.parts[part] for part, _ in places]
        parts = tables.read_parts(part_urls, COLUMNS, COLUMNS)
        found = [whole.iloc[at.to_numpy()] for whole, (_, at) in zip(parts, places, strict=True)]
        rows = pd.concat(found or [tables.typed_frame([], COLUMNS)], ignore_index=True)
        order = np.concatenate([np.zeros(0, int), *(places.indices[part] for part, _ in places)])
        return rows.iloc[order.argsort()].reset_index(drop=True)

    def slices(self, entries: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Return the whole rows of some entries, in their order, at most SLICE_ROWS at a time."""
        at_once = _rows_at_once(entries["part"].to_numpy())
        for start in range(0, len(entries), at_once):
            rows = self.rows(entries.iloc[start : start + at_once])
            for begin in range(0, len(rows), tables.SLICE_ROWS):
                yield rows.iloc[begin : begin + tables.SLICE_ROWS].reset_index(drop=True)


def _rows_at_once(parts: NDArray[np.int32]) -> int:
    """Return how many rows to read at once, given each row's part, so that few parts are read often."""
    at_once = tables.SLICE_ROWS
    most_reads = READS_PER_PART * len(np.unique(parts))
    while at_once < len(parts):
        groups = np.arange(len(parts)) // at_once
        if len(np.unique(groups * (parts.max() + 1) + parts)) <= most_reads:
            break
        at_once *= 2
    return at_once


def read_ledger(ledger_url: str, partition: tuple[int, int] | None = None) -> Ledger:
    """Return the latest row of every window; no rows where there is no ledger yet.

    Args:
        ledger_url: folder of its parts.
        partition: which entries are the run's own; all where there is none.
    """
    parts = objects.find_parts(ledger_url)
    found = [
        _entries_of(rows, number, partition)
        for number, rows in enumerate(tables.read_parts(parts, [*KEYS, *ENTRY], COLUMNS))
    ]
    columns = {name: [part[name] for part in found] for name in found[0]} if found else {}
    joined = {
        name: union_categoricals(arrays) if name in TEXTS else np.concatenate(arrays)
        for name, arrays in columns.items()
    }
    frame = pd.DataFrame(joined or _entries_of(tables.typed_frame([], COLUMNS), 0, None))
    frame = frame.sort_values("recorded_at", kind="stable")
    return Ledger(parts, frame.drop_duplicates(["pair", "window"], keep="last", ignore_index=True))


def _entries_of(rows: pd.DataFrame, number: int, partition: tuple[int, int] | None) -> dict[str, Any]:
    """Return the columns of one part's entries."""
    everything = np.ones(len(rows), dtype=bool)
    own = partition_of(rows["pair_id"], partition).to_numpy() if partition else everything
    return {
        **{name: rows[name].to_numpy() for name in ENTRY},
        **{name: pd.Categorical(rows[name]) for name in TEXTS},
        "pair": pair_keys(rows),
        "source": source_keys(rows),
        "own": own,
        "part": np.full(len(rows), number, np.int32),
        "row": np.arange(len(rows), dtype=np.int32),
    }
