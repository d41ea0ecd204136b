"""The record of an export: which file holds which result, in Parquet parts below OUT/exported.parquet/.

A row is put after its file. A file is up to date where the record's latest row of it names the pair's
present version, and the file has the size that the row says. The version of a pair is the `recorded_at`
of its latest row in the ledger of fuse_archive: a pair that is fused again gets a row before its pixels
change and another one after, and an image is read after the ledger. So a file may hold newer pixels than
its row says, and is written once more then, but never older ones.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from cluster.storage import tables, urls

Row = dict[str, Any]
COLUMNS = {
    "file": "str",
    "pair_id": "str",
    "version": "float64",
    "format": "str",
    "quality": "int64",
    "num_bytes": "int64",
    "exported_at": "float64",
}
"""Columns of the record and their types; quality is 0 where the format has none."""
ROWS_PER_PART = 10_000
SECONDS_PER_PART = 10.0
"""Longest time for which rows wait in memory while further rows come, in seconds."""


def record_url(output_url: str) -> str:
    """Return the folder of the record's parts."""
    return urls.join_url(output_url, "exported.parquet")


class Record:
    """The rows that one run adds to the record. A part is put again with more rows until it is full."""

    def __init__(self, output_url: str) -> None:
        """Begin with no row; the parts get a name that no other run gives."""
        self._prefix = urls.join_url(record_url(output_url), f"part-{secrets.token_hex(6)}")
        self._rows: list[Row] = []
        self._num_put = 0
        self._num_parts = 0
        self._last_put = time.monotonic()

    def add(self, rows: list[Row]) -> None:
        """Add rows of files that were written; put them when it is time."""
        now = time.time()
        named = ({**row, "exported_at": now} for row in rows)
        self._rows += [{name: row[name] for name in COLUMNS} for row in named]
        full = len(self._rows) >= ROWS_PER_PART
        if full or time.monotonic() - self._last_put > SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Put the part with all rows that it has by now."""
        if len(self._rows) > self._num_put:
            tables.write_rows(f"{self._prefix}-{self._num_parts:06d}.parquet", self._rows, COLUMNS)
            self._num_put = len(self._rows)
            if len(self._rows) >= ROWS_PER_PART:
                self._rows, self._num_put = [], 0
                self._num_parts += 1
        self._last_put = time.monotonic()
