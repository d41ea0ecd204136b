"""Which pairs a page holds: those asked for, the worst and best by each measure, and a sample of all.

The order is that of importance: images are made of the first ones, and a page that would be too large
leaves out the last ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from cluster.archive.pair_index import READ
from cluster.reporting.archive_tables import OWN, Archive
from cluster.reporting.config import MAX_THUMBNAILS
from cluster.reporting.groups import NUMBERS
from cluster.storage import urls
from cluster.storage.tables import Database, quoted

NUM_EXTREMES = 24
"""Number of worst, and of best, pairs by a measure."""
NUM_ROWS = 6000
"""Number of pairs that a page holds, where the archive has so many and their texts are short."""
MAX_LETTERS = 200
"""Longest carried value that is shown, in letters."""
FROM_LEDGER = tuple(name for name in READ if name not in ("pair_id", "ir_url", "vis_url"))
"""Columns by which a pair is read and that the metrics lack."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """The pairs of a page, the most important first."""

    rows: list[Row]
    """Of each pair the columns of the metrics, those of FROM_LEDGER, recorded_at and run_id."""
    worst: dict[str, list[int]]
    """Places in `rows` of the pairs with the least values of a measure, the least first."""
    best: dict[str, list[int]]
    """Places in `rows` of the pairs with the greatest values of a measure, the greatest first."""
    num_wanted: int
    """Number of pairs that were asked for; they are the first ones."""


def choose_pairs(database: Database, archive: Archive, output_url: str, where: str | None) -> Chosen:
    """Return the pairs of a page.

    Args:
        database: holds what `open_archive` makes.
        archive: what it found.
        output_url: URL of the output.
        where: SQL condition of the pairs that are asked for; None for none.

    Raises:
        ValueError: the condition can't be used, or no pair meets it.
    """
    wanted = _wanted(database, output_url, where) if where is not None else []
    worst, best = (
        {name: _extremes(database, name, order) for name in archive.measures if name != "seconds"}
        for order in ("asc", "desc")
    )
    by_rank = zip_longest(*worst.values(), *best.values())
    extremes = [number for number in chain.from_iterable(by_rank) if number is not None]
    sample = _numbers(database, f"from measured order by hash(pair_id), pair_id limit {NUM_ROWS}")
    places: dict[int, int] = {}
    for number in chain(wanted, extremes):
        places.setdefault(number, len(places))
    for number in sample:
        if len(places) < NUM_ROWS:
            places.setdefault(number, len(places))
    worst_places, best_places = (
        {name: [places[number] for number in found] for name, found in of.items() if found}
        for of in (worst, best)
    )
    return Chosen(_rows(database, list(places)), worst_places, best_places, len(wanted))


def describe_rows(rows: list[Row], archive: Archive, kinds: dict[str, str]) -> Row:
    """Return pairs in columns, as the page reads them.

    Args:
        rows: of `Chosen`.
        archive: what the output holds.
        kinds: SQL types of the columns of the metrics.
    """
    carried: Row = {}
    for name in archive.carried:
        values = [row[name] for row in rows]
        if kinds[name] in NUMBERS:
            carried[name] = {"numbers": [_number(value) for value in values]}
            continue
        texts = [None if value is None else str(value)[:MAX_LETTERS] for value in values]
        known = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        carried[name] = {"values": list(known), "codes": [known[text] for text in texts]}
    return {
        "pair_id": [row["pair_id"] for row in rows],
        "height": [row["height"] for row in rows],
        "width": [row["width"] for row in rows],
        "measures": {
            name: [_number(row[name]) for row in rows] for name in archive.measures
        },
        "carried": carried,
    }  # fmt: skip


def describe_details(rows: Iterable[Row]) -> list[Row]:
    """Return what only the page of a pair shows: where it comes from and how it was read."""
    ranges = ("ir_low", "ir_high", "vis_low", "vis_high")
    text = ("ir_url", "vis_url", "zarr_path", "dtype", "grid", "crs", "source_note", "run_id")
    return [
        {name: str(row[name])[:2000] for name in text if row.get(name)}
        | {name: _number(row.get(name)) for name in ranges}
        | {"num_windows": row.get("num_windows") or 1}
        for row in rows
    ]


def _wanted(database: Database, output_url: str, where: str) -> list[int]:
    """Return the numbers of the first pairs that meet a condition.

    The condition comes from outside, so that it sees a database of its own, which is closed to files.
    """
    with Database() as other:
        other.open("stored", urls.join_url(output_url, "metrics.parquet"))
        other.run("create or replace table metrics as from stored")
        other.close_to_files()
        other.choose("meeting", "metrics", where, "--where")
        named = other.frame(f"select pair_id from meeting order by pair_id limit {MAX_THUMBNAILS}")
    if named.empty:
        raise ValueError(f"--where {where!r} is met by no fused pair, expected one: correct it")
    database.add("wanted", named)
    return _numbers(database, "from measured semi join wanted using (pair_id) order by pair_id")


def _extremes(database: Database, name: str, order: str) -> list[int]:
    column = quoted(name)
    return _numbers(
        database,
        f"from measured where isfinite({column}) order by {column} {order}, pair_id limit {NUM_EXTREMES}",
    )


def _numbers(database: Database, source: str) -> list[int]:
    """Return the numbers, which are stable, of some rows of the table `measured`."""
    return [int(number) for number in database.frame(f"select rowid as number {source}")["number"]]


def _rows(database: Database, numbers: list[int]) -> list[Row]:
    places = [(place, number) for place, number in enumerate(numbers)]
    database.add_rows("places", {"place": "int64", "number": "int64"}, places)
    database.run(
        "create or replace table chosen as select place, pair_id, m.recorded_at, run_id from places "
        "join measured m on m.rowid = places.number left join latest using (pair_id)"
    )
    columns = database.columns("from stored")
    carried = [
        quoted(name) if name in OWN or kind in NUMBERS
        else f"left({quoted(name)}::varchar, {MAX_LETTERS}) as {quoted(name)}"
        for name, kind in columns.items()
    ]  # fmt: skip
    known = database.columns("from ledger")
    read = [f"l.{quoted(name)}" for name in FROM_LEDGER if name in known]
    query = (
        f"select place, c.recorded_at, c.run_id, s.*, {', '.join(read) or 'null as nothing'} "
        f"from chosen c join (select {', '.join(carried)} from stored) s using (pair_id) left join "
        '(from ledger semi join chosen using (pair_id, recorded_at) where "window" = 0) l '
        "using (pair_id) order by place"
    )
    return [row for rows in database.batches(query) for row in rows]


def _number(value: Any) -> float | None:
    """Return a finite number with six digits, None for any other."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(f"{float(value):.6g}")
