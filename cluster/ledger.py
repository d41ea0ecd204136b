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
from typing import Any

import pandas as pd

from cluster import storage
from cluster.steps import RANGES
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
            part_url = storage.join_url(
                self.ledger_url, f"part-{self.run_id}-{self.num_parts:06d}.parquet"
            )
            self.num_put = len(self.rows)  # tried once: a run that can't write its ledger ends
            storage.write_table(part_url, storage.typed_frame(self.rows, COLUMNS))
            if len(self.rows) >= ROWS_PER_PART:
                self.rows, self.num_put = [], 0
                self.num_parts += 1
        self.last_put = time.monotonic()

    def forget(self) -> None:
        """Drop the rows that are not in the ledger: the output is another run's."""
        self.rows = self.rows[: self.num_put]


def read_ledger(ledger_url: str) -> pd.DataFrame:
    """Return the latest row of every window, with COLUMNS; no rows where there is no ledger yet."""
    frame = storage.read_table(ledger_url)
    if frame is None:
        return storage.typed_frame([], COLUMNS)
    missing = sorted(set(COLUMNS) - set(frame.columns))
    if missing:
        raise ValueError(
            f"ledger {storage.redact_url(ledger_url)!r} has no column {', '.join(missing)}, expected "
            "the ledger of this version: use another --output"
        )
    frame = frame.sort_values("recorded_at", kind="stable")
    return frame.drop_duplicates(["pair_id", "window"], keep="last", ignore_index=True)
