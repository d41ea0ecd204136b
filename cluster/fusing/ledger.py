"""The ledger: what became of every window, in Parquet parts below OUT/ledger/.

The driver alone writes it. A part is one whole file, which is put again with more rows until it has
ROWS_PER_PART, so that a slow run leaves few parts too. Rows are never changed. Of several rows of one
window the one with the latest `recorded_at` counts, and every new row is later than all before it, even
where a machine's clock is behind. Each row is put in an order that makes its status true whenever a run
is killed:

| status      | put                                  | what it says of the window's pixels            |
|-------------|--------------------------------------|------------------------------------------------|
| `surveyed`  | before a scene's windows are stored  | of a scene; its windows have rows of their own |
| `fused`     | after the pixels are stored          | they are of the row's sources and fingerprint  |
| `scored`    | after a window's metrics are stored  | of a scene's window; they are as with `fused`  |
| `rejected`  | after older pixels are removed       | there are none                                 |
| `replacing` | before other pixels take their place | they may be of any sources and fingerprint     |
| `pruning`   | before pixels are removed            | they may be there or not                       |
| `pruned`    | after they are removed               | there are none                                 |

A pair has the window 0, and the windows of a scene are numbered from 1 on: `scenes.py` says how a scene
gets to its end. Of a pair only `fused` and `rejected` count as done. `replacing` takes back a done row,
or a survey's, whose pair a run is about to fuse again: without it, a run that dies after the new pixels
and before their row would leave an old row that counts once more where the sources, or the settings,
change back.
"""

from __future__ import annotations

import time
from typing import Any

from cluster.archive.pair_index import SOURCE, in_partition
from cluster.fusing.steps.rows import RANGES
from cluster.storage import tables, urls
from cluster.storage.tables import Database
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
    "ir_bands": "str",
    "vis_bands": "str",
    "ir_to_vis": "str",
    "ir_digest": "str",
    "vis_digest": "str",
    "zarr_path": "str",
    "grid": "str",
    "crs": "str",
    "transform": "str",
    "height": "int64",
    "width": "int64",
    "bands": "int64",
    "dtype": "str",
    "num_windows": "int64",
    "source_version": "str",
    "survey_digest": "str",
    "valid_share": "float64",
    "source_note": "str",
    **dict.fromkeys(RANGES, "float64"),
    **dict.fromkeys(METRICS, "float64"),
    "read_bytes": "int64",
    "written_bytes": "int64",
    "seconds": "float64",
    "run_id": "str",
    "recorded_at": "float64",
}
"""Every column and its type; sizes unknown to the index are -1, etags unknown to it are empty. Rows
of window 0 have `crs` and `transform` of a pair that lies on the earth: see `ledger_place`."""
PLANNED = (
    *SOURCE, "status", "reason", "fingerprint", "zarr_path", "num_windows", "written_bytes",
    "recorded_at",
)  # fmt: skip
"""Columns that a plan needs of the latest row of every window."""
HAS_LEDGER_ROW = 'l.pair_id = {0}.pair_id and l.recorded_at = {0}.recorded_at and l."window" = 0'
"""SQL condition under which a row `l` of the ledger is the one that a row of another table stands for."""
ROWS_PER_PART = 1000
SECONDS_PER_PART = 10.0
"""Longest time for which rows of finished windows wait in memory while further rows come, in seconds."""


class Ledger:
    """The ledger of an output, as one run reads and writes it."""

    def __init__(self, ledger_url: str, run_id: str) -> None:
        """Begin with no row.

        Args:
            ledger_url: folder of the ledger's parts.
            run_id: names the parts that this run writes.
        """
        self.url = ledger_url
        self.run_id = run_id
        self.latest = 0.0
        """`recorded_at` of the latest row known, of this run or another."""
        self._rows: list[Row] = []
        """Rows of the part that is being filled."""
        self._num_put = 0
        """Number of rows of the present part that the store has."""
        self._num_parts = 0
        self._last_put = time.monotonic()
        self._oldest = 0.0

    @property
    def lag_s(self) -> float:
        """Age of the oldest row that is not put yet, in seconds; 0 where there is none."""
        return time.monotonic() - self._oldest if len(self._rows) > self._num_put else 0.0

    def load(self, database: Database, partition: tuple[int, int] | None) -> None:
        """Make the view `ledger` of all rows and the table `latest` of PLANNED for every pair.

        Args:
            database: receives the view and the table.
            partition: (k, n) where only the pairs of that partition are the run's; None for all.

        Raises:
            StorageError: a part cannot be read, or is of another version of this software.
        """
        if not database.open("ledger", self.url):
            database.add("no_rows", tables.as_table([], COLUMNS))
            database.run("create or replace view ledger as from no_rows")
        self._check_columns(database)
        columns = ", ".join(PLANNED)
        database.run(
            f"create or replace table rows as select {columns} from ledger "
            f'where "window" = 0 and {in_partition(partition)}'
        )
        database.run(
            "create or replace table latest as from rows "
            "where rowid in (select arg_max(rowid, recorded_at) from rows group by pair_id)"
        )
        database.run("drop table rows")
        (latest,) = database.first("select coalesce(max(recorded_at), 0) from ledger")
        self.latest = max(self.latest, float(latest))

    def append(self, rows: list[Row]) -> None:
        """Take rows of `write_window`, and put their part where that is due."""
        if len(self._rows) == self._num_put:
            self._oldest = time.monotonic()
        recorded_at = self._next_time()
        self._rows += [row | {"run_id": self.run_id, "recorded_at": recorded_at} for row in rows]
        due = time.monotonic() - self._last_put > SECONDS_PER_PART
        if len(self._rows) >= ROWS_PER_PART or due:
            self.flush()

    def flush(self) -> None:
        """Put the part with all rows that it has by now, over what was put of it before."""
        if len(self._rows) > self._num_put:
            self._num_put = len(self._rows)  # tried once: a run that can't write its ledger ends
            tables.write_rows(self._part_url(), self._rows, COLUMNS)
            if len(self._rows) >= ROWS_PER_PART:
                self._rows, self._num_put = [], 0
                self._num_parts += 1
        self._last_put = time.monotonic()

    def forget(self) -> None:
        """Drop the rows that are not in the store: the output is another run's by now."""
        self._rows = self._rows[: self._num_put]

    def mark(self, database: Database, table: str, status: str) -> None:
        """Put a row of a status for every pair of a table, all in one part.

        Args:
            database: holds the table.
            table: name of a table with the columns PLANNED.
            status: status of the new rows.
        """
        if not database.first(f"select count(*) from {table}")[0]:
            return
        nothing = {"str": "''", "int64": "0", "float64": "null"}
        values = {
            name: tables.quoted(name) if name in PLANNED else nothing[kind]
            for name, kind in COLUMNS.items()
        }
        self._put_table(database, values | {"status": f"'{status}'", "window": "0"}, table)

    def confirm(self, database: Database, pair_ids: list[str]) -> None:
        """Put the rows of pairs again, with the etags that their unchanged files have now.

        Args:
            database: holds the tables of a plan.
            pair_ids: pairs of the table `to_compare` whose bytes are those of their rows.
        """
        if not pair_ids:
            return
        database.add("confirmed", tables.as_table([{"pair_id": p} for p in pair_ids], {"pair_id": "str"}))
        values = {name: f"l.{tables.quoted(name)}" for name in COLUMNS}
        values |= {name: f"p.{name}" for name in SOURCE}
        source = (
            "to_compare c semi join confirmed using (pair_id) join pairs p using (__row) "
            f"join ledger l on {HAS_LEDGER_ROW.format('c')}"
        )
        self._put_table(database, values, source)
        database.run("drop table confirmed")

    def _put_table(self, database: Database, values: dict[str, str], source: str) -> None:
        """Put the rows of a table or join in a part of their own; `values` is the SQL of each column."""
        self.flush()
        if self._rows:
            self._rows, self._num_put = [], 0
            self._num_parts += 1
        values |= {"run_id": f"'{self.run_id}'", "recorded_at": repr(self._next_time())}
        columns = [
            f"({values[name]})::{tables.SQL_TYPES[kind]} as {tables.quoted(name)}"
            for name, kind in COLUMNS.items()
        ]
        database.write(f"select {', '.join(columns)} from {source}", self._part_url())
        self._num_parts += 1

    def _next_time(self) -> float:
        """Return the present time, or one that is later than every row's where the clock is behind."""
        self.latest = max(time.time(), self.latest + 1e-3)
        return self.latest

    def _part_url(self) -> str:
        return urls.join_url(self.url, f"part-{self.run_id}-{self._num_parts:06d}.parquet")

    def _check_columns(self, database: Database) -> None:
        found = database.columns("from ledger")
        if missing := [name for name in COLUMNS if name not in found]:
            raise urls.StorageError(
                f"table {urls.redact_url(self.url)!r} has no column {', '.join(missing)}, expected what "
                "this version writes: use another --output"
            )
