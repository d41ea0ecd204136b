"""The pair index: which infrared and which visible file make a pair.

First in the flow. `build_index` makes an index of two prefixes; `open_index` brings an index, or two
prefixes, into a database as the tables `pairs` and `unmatched`. A name that makes no pair is listed with
its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cluster.archive.config import IndexConfig
from cluster.archive.matching import match_pairs
from cluster.storage import objects, tables, urls
from cluster.storage.config_urls import with_absolute_urls
from cluster.storage.tables import Database, quoted

SCHEMA = {
    "pair_id": "str",
    "ir_url": "str",
    "vis_url": "str",
    "ir_size": "int64",
    "ir_etag": "str",
    "vis_size": "int64",
    "vis_etag": "str",
}
"""Columns of an index that this project writes; the first three are those that every index has."""
NEEDED = ("pair_id", "ir_url", "vis_url")
URLS = ("ir_url", "vis_url")
SOURCE = ("pair_id", "ir_size", "ir_etag", "vis_size", "vis_etag")
"""Columns that tell one version of a pair's files from another."""
UNMATCHED_SCHEMA = dict.fromkeys(("pair_id", "reason", "detail", "ir_url", "vis_url"), "str")
NO_PAIR = ("missing_partner", "ambiguous", "bad_name")
"""Reasons in the table of unmatched names that count as rejected pairs; `not_image` does not."""

Row = dict[str, Any]


@dataclass(frozen=True)
class IndexReport:
    """What `build_index` found."""

    num_pairs: int
    """Number of rows of the index."""
    num_unmatched: dict[str, int]
    """Number of names that make no pair, by reason."""
    index_url: str
    """URL of the index."""
    unmatched_url: str
    """URL of the table of unmatched names."""


def build_index(config: IndexConfig) -> IndexReport:
    """List both prefixes, match the names, write the index and the table of unmatched names.

    Raises:
        ValueError: a prefix is not there or cannot be reached, or no name has a partner.
    """
    config = with_absolute_urls(config)
    pairs, unmatched = _match_prefixes(
        config.ir_url, config.vis_url, config.ir_pattern, config.vis_pattern
    )
    unmatched_url = unmatched_table_url(config.output_url)
    for url, rows, schema in (
        (unmatched_url, unmatched, UNMATCHED_SCHEMA),
        (config.output_url, pairs, SCHEMA),
    ):
        tables.write_table(url, tables.as_table(rows, schema).to_pandas())
    counts: dict[str, int] = {}
    for row in unmatched:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return IndexReport(len(pairs), counts, config.output_url, unmatched_url)


def open_index(
    database: Database,
    index_url: str | None,
    ir_url: str | None = None,
    vis_url: str | None = None,
    partition: tuple[int, int] | None = None,
) -> None:
    """Make the tables `pairs` and `unmatched` of a run.

    `pairs` has `__row` (0, 1, ... in the order of the index), every column of SCHEMA, with -1 and ""
    where a user's own index does not say, and any other column of the index. `unmatched` has the columns
    of UNMATCHED_SCHEMA and only the names that count as rejected pairs.

    Args:
        database: receives the tables.
        index_url: URL of the index; relative URLs in it are below its own folder. None where the pairs
            are those of two prefixes.
        ir_url: prefix of the infrared images, where there is no index.
        vis_url: prefix of the visible images, where there is no index.
        partition: (k, n): only the names that are in the k-th, from 1, of n parts.

    Raises:
        ValueError: the index or a prefix cannot be used, or a pair_id stands twice.
    """
    own = in_partition(partition)
    if index_url is None:
        assert ir_url is not None and vis_url is not None
        pairs, unmatched = _match_prefixes(ir_url, vis_url, "{id}", "{id}")
        database.add("listed", tables.as_table(pairs, SCHEMA))
        columns = ", ".join(SCHEMA)
        database.run(
            f"create or replace table pairs as select row_number() over () - 1 as __row, {columns} "
            f"from listed where {own}"
        )
        database.run("drop table listed")
        database.add("no_pairs", tables.as_table(unmatched, UNMATCHED_SCHEMA))
        names = "no_pairs"
    else:
        if not database.open("stored", index_url):
            raise ValueError(
                f"--index {urls.redact_url(index_url)!r} is not there, expected a Parquet "
                "or CSV file: make one with jobs/index_archive.py"
            )
        _check_columns(database, index_url)
        database.run(
            f"create or replace table pairs as select row_number() over () - 1 as __row, * "
            f"from ({_normalised(database)}) where {own}",
            folder=urls.absolute_url(index_url).rpartition("/")[0],
        )
        names = "stored_names"
        if not database.open(names, unmatched_table_url(index_url)):
            names = "no_pairs"
            database.add(names, tables.as_table([], UNMATCHED_SCHEMA))
    reasons = ", ".join(f"'{reason}'" for reason in NO_PAIR)
    database.run(
        f"create or replace table unmatched as select {', '.join(UNMATCHED_SCHEMA)} from {names} "
        f"where reason in ({reasons}) and {own}"
    )
    _check_unique(database, index_url)


def load_index(
    index_url: str | None, ir_url: str | None = None, vis_url: str | None = None
) -> tuple[pd.DataFrame, int]:
    """Return all pairs of an index, or of two prefixes, in one frame, and how many names make no pair.

    Args and errors as in `open_index`.
    """
    with Database() as database:
        open_index(database, index_url, ir_url, vis_url)
        pairs = database.frame("select * exclude (__row) from pairs order by __row")
        return pairs, int(database.first("select count(*) from unmatched")[0])


def in_partition(partition: tuple[int, int] | None) -> str:
    """Return the SQL condition on `pair_id` under which a row belongs to a partition of an archive.

    A name is in the same part in every run and on every machine.

    Args:
        partition: (k, n): the k-th, from 1, of n parts; None for everything.
    """
    if partition is None:
        return "true"
    part, parts = partition
    return f"md5_number_lower(pair_id) % {parts} = {part - 1}"


def unmatched_table_url(index_url: str) -> str:
    """Return where the unmatched names of an index are: pairs.parquet, pairs.unmatched.parquet."""
    return f"{index_url.rpartition('.')[0]}.unmatched.parquet"


def _match_prefixes(
    ir_url: str, vis_url: str, ir_pattern: str, vis_pattern: str
) -> tuple[list[Row], list[Row]]:
    ir_url, vis_url = urls.absolute_url(ir_url), urls.absolute_url(vis_url)
    pairs, unmatched = match_pairs(
        objects.list_files(ir_url), objects.list_files(vis_url), ir_pattern, vis_pattern
    )
    if not pairs:
        example = f", for example {unmatched[0]['pair_id']!r}" if unmatched else ""
        raise ValueError(
            f"no infrared file below {urls.redact_url(ir_url)!r} has a visible one of its name "
            f"below {urls.redact_url(vis_url)!r} ({len(unmatched)} names without a "
            f"partner{example}), expected equal relative paths without extension: make an index "
            "with jobs/index_archive.py --ir-pattern and --vis-pattern where the names differ"
        )
    return pairs, unmatched


def _check_columns(database: Database, index_url: str) -> None:
    """Raise ValueError where the view `stored` lacks a column or a value that every index has."""
    name = f"index {urls.redact_url(index_url)!r}"
    columns = database.columns("from stored")
    lowered = [column.lower() for column in columns]
    if "__row" in lowered:
        raise ValueError(f"{name} has a column '__row', expected none of that name: rename it")
    if missing := [column for column in NEEDED if column not in lowered]:
        raise ValueError(
            f"{name} has no column {', '.join(missing)} (it has {', '.join(map(repr, columns))}), "
            "expected pair_id, ir_url and vis_url"
        )
    sizes = [column for column in ("ir_size", "vis_size") if column in lowered]
    empty = [f"count(*) filter (coalesce({column}::varchar, '') = '')" for column in NEEDED]
    odd = [
        f"count(*) filter ({size} is not null and try_cast({size} as double) is null)" for size in sizes
    ]
    num_rows, *counts = database.first(f"select count(*), {', '.join(empty + odd)} from stored")
    if not num_rows:
        raise ValueError(f"{name} has no rows, expected one a pair")
    for column, count in zip(NEEDED, counts, strict=False):
        if count:
            raise ValueError(f"{name} has {count} rows without {column}, expected none")
    for size, count in zip(sizes, counts[len(NEEDED) :], strict=True):
        if count:
            raise ValueError(
                f"{name} has {count} rows whose {size} is no number of bytes, expected whole numbers, or "
                "no value where the size is not known"
            )


def _normalised(database: Database) -> str:
    """Return the query for the rows of `stored` with the columns of SCHEMA in their types.

    `$folder` in it is the folder of relative URLs.
    """
    columns = {name.lower(): name for name in database.columns("from stored")}
    known = {"pair_id": "pair_id::varchar"}
    for side in ("ir", "vis"):
        url, size, etag = (f"{side}_{what}" for what in ("url", "size", "etag"))
        known[url] = (
            f"case when contains({url}::varchar, '://') or starts_with({url}::varchar, '/') "
            f"then {url}::varchar else concat(rtrim($folder, '/'), '/', {url}::varchar) end"
        )
        number = f"try_cast({size} as double)"
        known[size] = "-1::bigint"
        if size in columns:
            # Both conditions: a Parquet file's least and greatest value leave NaN out, and DuckDB takes a
            # range that they lie in for one that every row is in.
            known[size] = (
                f"case when isfinite({number}) and {number} between 0 and 9e18 "
                f"then {number}::bigint else -1 end"
            )
        known[etag] = f"coalesce({etag}::varchar, '')" if etag in columns else "''"
    selected = [f"{known[column]} as {column}" for column in SCHEMA]
    selected += [quoted(name) for column, name in columns.items() if column not in SCHEMA]
    return f"select {', '.join(selected)} from stored"


def _check_unique(database: Database, index_url: str | None) -> None:
    num_rows, num_names = database.first("select count(*), count(distinct pair_id) from pairs")
    if num_rows == num_names or index_url is None:
        return
    (twice,) = database.first(
        "select pair_id from pairs group by pair_id having count(*) > 1 order by min(__row) limit 1"
    )
    raise ValueError(
        f"index {urls.redact_url(index_url)!r} has {num_rows - num_names} rows whose pair_id an earlier "
        f"row has, for example {twice!r}, expected each once"
    )
