"""The pair index: which infrared and which visible file make a pair.

First in the flow. `build_index` makes an index of two prefixes or of STAC items; `open_index` brings an
index, or two prefixes, into a database as the tables `pairs` and `unmatched`. A name that makes no pair
is listed with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cluster.archive.cameras import PART as CAMERA
from cluster.archive.cameras import read_cameras, with_cameras
from cluster.archive.columns import BANDS, HOMOGRAPHY, bands_sql, homography_sql
from cluster.archive.config import IndexConfig
from cluster.archive.matching import NO_PAIR, match_pairs
from cluster.archive.naming import PART, Naming
from cluster.archive.no_pairs import counted, no_pairs_message
from cluster.archive.stac import pairs_of_items
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
    "ir_bands": "str",
    "vis_bands": "str",
    "ir_to_vis": "str",
}
"""Columns of an index that this project writes; the first three are those that every index has."""
NEEDED = ("pair_id", "ir_url", "vis_url")
URLS = ("ir_url", "vis_url")
SOURCE = tuple(column for column in SCHEMA if column not in URLS)
"""Columns that tell one version of a pair from another: that of its files, and what is read of them."""
READ = tuple(column for column in SCHEMA if column not in ("ir_etag", "vis_etag"))
"""Columns by which a pair is read."""
UNMATCHED_SCHEMA = dict.fromkeys(("pair_id", "reason", "detail", "ir_url", "vis_url"), "str")
NUM_EXAMPLES = 10
"""Pairs that a report on an index names."""

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
    pairs: list[tuple[str, str, str]]
    """Up to NUM_EXAMPLES pairs from all over the index: pair_id, and the paths of both files below the
    prefixes or below the folder of the STAC document."""
    unmatched: dict[str, str]
    """Name and detail of one name that makes no pair, by reason."""
    num_unknown_camera: int = 0
    """Number of pairs of cameras that the table of cameras does not name."""


def build_index(config: IndexConfig) -> IndexReport:
    """Find the pairs, write the index and the table of unmatched names.

    Under `--dry-run` nothing is written.

    Raises:
        ValueError: a prefix or the STAC document is not there or cannot be used, both prefixes name the
            same files, or there is no pair.
    """
    config = with_absolute_urls(config)
    bands = (config.ir_bands or "", config.vis_bands or "")
    schema, num_unknown = SCHEMA, 0
    if config.stac_url is not None:
        assert config.ir_asset is not None and config.vis_asset is not None
        pairs, unmatched, carried = pairs_of_items(config.stac_url, config.ir_asset, config.vis_asset)
        pairs = [row | {"ir_bands": bands[0], "vis_bands": bands[1], "ir_to_vis": ""} for row in pairs]
        schema = SCHEMA | carried
        folders = (config.stac_url.rpartition("/")[0],) * 2
    else:
        assert config.ir_url is not None and config.vis_url is not None
        folders = (config.ir_url, config.vis_url)
        pairs, unmatched = _match_prefixes(*folders, config.naming, bands)
    if config.cameras_url is not None:
        homographies = read_cameras(config.cameras_url)
        num_unknown = with_cameras(pairs, config.naming.patterns()[0].names, homographies)
        schema = schema | {CAMERA: "str"}
    unmatched_url = unmatched_table_url(config.output_url)
    for url, rows, columns in (
        (unmatched_url, unmatched, UNMATCHED_SCHEMA),
        (config.output_url, pairs, schema),
    ):
        if not config.dry_run:
            tables.write_table(url, tables.as_table(rows, columns).to_pandas())
    by_reason = counted(unmatched)
    return IndexReport(
        num_pairs=len(pairs),
        num_unmatched={reason: count for reason, count, _ in by_reason},
        index_url=config.output_url,
        unmatched_url=unmatched_url,
        pairs=_examples(pairs, folders),
        unmatched={reason: f"{row['pair_id']!r}, {row['detail']}" for reason, _, row in by_reason},
        num_unknown_camera=num_unknown,
    )


def _examples(pairs: list[Row], folders: tuple[str, str]) -> list[tuple[str, str, str]]:
    number = min(len(pairs), NUM_EXAMPLES)
    chosen = [pairs[place * len(pairs) // number] for place in range(number)]
    ir, vis = (
        [urls.path_below(row[side], folder) or urls.redact_url(row[side]) for row in chosen]
        for side, folder in zip(URLS, folders, strict=True)
    )
    return list(zip((row["pair_id"] for row in chosen), ir, vis, strict=True))


def open_index(
    database: Database,
    index_url: str | None,
    ir_url: str | None = None,
    vis_url: str | None = None,
    partition: tuple[int, int] | None = None,
    output_url: str | None = None,
    bands: tuple[str, str] = ("", ""),
) -> int:
    """Make the tables `pairs` and `unmatched` of a run; return how many other files were left out.

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
        output_url: output of the run, whose files are no images of the archive where it lies below a
            prefix.
        bands: infrared and visible bands of the pairs of which the index names none.

    Raises:
        ValueError: the index or a prefix cannot be used, or a pair_id stands twice.
    """
    own = in_partition(partition)
    if index_url is None:
        assert ir_url is not None and vis_url is not None
        _add_listed(database, _match_prefixes(ir_url, vis_url, Naming(), bands, output_url), own)
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
            **dict(zip(BANDS, bands, strict=True)),
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
    left_out = database.first(f"select count(*) from {names} where reason not in ({reasons}) and {own}")
    return int(left_out[0])


def _add_listed(database: Database, matched: tuple[list[Row], list[Row]], own: str) -> None:
    """Make the tables `pairs` and `no_pairs` of two listings; `own` is the condition of the partition."""
    pairs, unmatched = matched
    database.add("listed", tables.as_table(pairs, SCHEMA))
    database.run(
        f"create or replace table pairs as select row_number() over () - 1 as __row, {', '.join(SCHEMA)} "
        f"from listed where {own}"
    )
    database.run("drop table listed")
    database.add("no_pairs", tables.as_table(unmatched, UNMATCHED_SCHEMA))


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
    ir_url: str,
    vis_url: str,
    naming: Naming,
    bands: tuple[str, str],
    output_url: str | None = None,
) -> tuple[list[Row], list[Row]]:
    prefixes = {"ir": urls.absolute_url(ir_url), "vis": urls.absolute_url(vis_url)}
    folders = _folders_of_one(**prefixes)
    if folders:
        ir_names, vis_names = (
            folder + PART.sub("{}", pattern)
            for folder, pattern in zip(folders, (naming.ir_pattern, naming.vis_pattern), strict=True)
        )
        if ir_names == vis_names or (naming.ignore_case and ir_names.lower() == vis_names.lower()):
            if not all(bands) or bands[0] == bands[1]:
                raise ValueError(
                    f"--ir {urls.redact_url(ir_url)!r} and --vis {urls.redact_url(vis_url)!r} name the "
                    "same files, each of which would be paired with itself, expected two folders, an "
                    "index by two patterns, for example jobs/index_archive.py --ir-pattern '{id}_T' "
                    "--vis-pattern '{id}_W', where a_T.png and a_W.png are the images of the pair a, or "
                    "files that hold both images: --ir-bands 4 --vis-bands 1,2,3"
                )
            folders = None  # a file is both images of its pair
    files = {side: objects.list_files(url) for side, url in prefixes.items()}
    outputs = [
        None if output_url is None else urls.path_below(output_url, url) for url in prefixes.values()
    ]
    pairs, unmatched = match_pairs(
        files["ir"], files["vis"], naming, folders=folders, outputs=(outputs[0], outputs[1])
    )
    for row in pairs:
        row |= {**dict(zip(BANDS, bands, strict=True)), HOMOGRAPHY: ""}
    if not pairs:
        num_files = {side: len(found) for side, found in files.items()}
        raise ValueError(no_pairs_message(prefixes, num_files, naming, unmatched))
    return pairs, unmatched


def _folders_of_one(ir: str, vis: str) -> tuple[str, str] | None:
    """Return the path of each prefix in the outer of both, as `match_pairs` takes it; None if apart."""
    if below := urls.path_below(vis, ir):
        return "", f"{below}/"
    if below is not None:
        return "", ""
    if below := urls.path_below(ir, vis):
        return f"{below}/", ""
    return None


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

    `$folder` in it is the folder of relative URLs, `$ir_bands` and `$vis_bands` are the bands of rows
    that name none.
    """
    found = database.columns("from stored")
    columns = {name.lower(): name for name in found}
    kinds = {name.lower(): kind for name, kind in found.items()}
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
    for name in BANDS:
        text = bands_sql(name, kinds[name]) if name in columns else "''"
        known[name] = f"coalesce(nullif({text}, ''), ${name})"
    known[HOMOGRAPHY] = homography_sql(HOMOGRAPHY, kinds[HOMOGRAPHY]) if HOMOGRAPHY in columns else "''"
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
