"""OUT/stac/: a STAC item of each fused pair that lies on the earth, brought up to date at a run's end.

The ledger says which pairs have an item, and the table of items says which of them are there. An item
bears the time of its pair's ledger row, so only items that are missing or older than that row are made.
All others stay as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.archive.stac_item import stac_item
from cluster.fusing.ledger import HAS_LEDGER_ROW
from cluster.fusing.output import Output
from cluster.storage import stac_table
from cluster.storage.stac_table import Item, PackagesMissing
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line
from cluster.text.run_log import RunLog
from dmnet_core.metrics import METRICS

MADE_OF = (
    "zarr_path", "crs", "transform", "height", "width", "bands", "dtype", "valid_share", "fingerprint",
)  # fmt: skip
"""Columns of the ledger, beside recorded_at and the metrics, that an item is made of."""
SAME_TIME_US = 500
"""Most microseconds between the time of an item and that of its ledger row; two rows of one pair are
more apart."""


@dataclass
class _Bad:
    """The pairs of which no item can be made."""

    number: int = 0
    example: str = ""


def write_items(database: Database, output: Output, log: RunLog) -> None:
    """Make the items that are missing or of an earlier row, and remove those of pairs that are gone.

    Gone are pairs that are pruned, or rejected by now. What can't be made is said and left out: a pair
    whose place is none on the earth, and all of them where the packages for STAC are not installed.

    Args:
        database: holds the tables that `make_plan` leaves, made of the whole index and the whole ledger.
        output: whose items are brought up to date.
        log: log of the run.

    Raises:
        StorageError: the stored table can't be read, or a file can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="dmnet-stac-") as folder:
        stored = stac_table.open_items(database, output.stac, folder)
        _compare(database)
        dropped = database.frame("select id, zarr_path from items anti join kept using (id)")
        (num_wanted,) = database.first("select count(*) from wanted")
        if not num_wanted and dropped.empty:
            return
        bad = _Bad()
        try:
            number = stac_table.update_items(
                output.stac,
                _made(database, output.store, bad),
                stored=stored,
                dropped=dict(zip(dropped["id"], dropped["zarr_path"], strict=True)),
            )
        except PackagesMissing as error:
            counts = {"to_make": num_wanted, "to_remove": len(dropped)}
            text = (
                f"STAC items are left as they are, {num_wanted} to make and {len(dropped)} to remove: "
                f"{one_line(error)}"
            )
            log.say("stac_left_out", text, **counts, error=one_line(error))
            return
    if bad.number:
        text = f"{bad.number} pairs with a CRS have no STAC item, for example {bad.example}"
        log.say("no_stac_item", text, pairs=bad.number, example=bad.example)
    if number or len(dropped):
        text = f"{number} STAC items written, {len(dropped)} earlier ones replaced or removed"
        log.say("stac", text, written=number, dropped=len(dropped))


def _compare(database: Database) -> None:
    """Make the tables `kept`, of the stored items that stay, and `wanted`, of the pairs to make one of.

    A pair that left the index and was not pruned keeps its item; a new one would need its URLs.
    """
    on_earth = "c.status = 'fused' and l.crs != '' and l.transform != ''"
    database.run(
        "create or replace table places as select c.pair_id, __row, c.recorded_at from "
        "(select __row, pair_id, status, recorded_at from current union all by name "
        "select pair_id, status, recorded_at from gone) c "
        f"join ledger l on {HAS_LEDGER_ROW.format('c')} where {on_earth}"
    )
    database.run(
        "create or replace table kept as select i.id from items i join places p on p.pair_id = i.id "
        f"where abs(i.created_us - p.recorded_at * 1e6) < {SAME_TIME_US}"
    )
    database.run(
        "create or replace table wanted as select __row, pair_id, recorded_at from places p "
        "where __row is not null and not exists (from kept k where k.id = p.pair_id)"
    )


def _made(database: Database, store_url: str, bad: _Bad) -> Iterator[Item]:
    """Yield the items of the pairs of the table `wanted`; count those of which none can be made."""
    has_moment = any(name.lower() == "datetime" for name in database.columns("from pairs"))
    # As text, since Python knows fewer times than a table may hold.
    moment = "p.datetime::varchar" if has_moment else "null"
    columns = ", ".join(f'l."{name}"' for name in (*MADE_OF, *METRICS))
    query = (
        f"select c.pair_id, c.recorded_at, p.ir_url, p.vis_url, {moment} as moment, {columns} "
        f"from wanted c join pairs p using (__row) join ledger l on {HAS_LEDGER_ROW.format('c')} "
        "order by __row"
    )
    for rows in database.batches(query):
        for row in rows:
            try:
                item = _item(row, store_url)
            except PackagesMissing:
                raise
            except ValueError as error:
                bad.number += 1
                bad.example = bad.example or f"{row['pair_id']!r}: {one_line(error)}"
            else:
                yield item


def _item(row: dict[str, Any], store_url: str) -> Item:
    return stac_item(
        row["pair_id"],
        zarr_path=row["zarr_path"],
        store_url=store_url,
        crs=row["crs"],
        transform=[float(number) for number in row["transform"].split()],
        height=row["height"],
        width=row["width"],
        num_bands=row["bands"],
        dtype=row["dtype"],
        valid_share=row["valid_share"],
        ir_url=row["ir_url"],
        vis_url=row["vis_url"],
        moment=row["moment"],
        fused_at=datetime.fromtimestamp(row["recorded_at"], UTC),
        metrics={name: row[name] for name in METRICS},
        fingerprint=row["fingerprint"],
    )
