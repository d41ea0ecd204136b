"""What a run leaves beside the pixels: metrics, rejected pairs and the run's record.

Last in the flow. The tables are made anew from index and ledger each time, so a run that died before it
wrote them loses nothing.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version

from cluster.archive.pair_index import SCHEMA, URLS
from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import HAS_LEDGER_ROW
from cluster.fusing.output import Output
from cluster.fusing.plan import Fingerprint
from cluster.fusing.steps.rows import RANGES
from cluster.fusing.summary import Summary
from cluster.storage import objects, urls
from cluster.storage.config_urls import without_secrets
from cluster.storage.tables import Database, quoted
from dmnet_core import __version__
from dmnet_core.metrics import METRICS

VERSIONED = ("ray", "torch", "zarr", "duckdb", "numpy", "pillow")
TABLE_PART = "part-000000.parquet"
MEASURED = (
    *METRICS, "height", "width", "bands", "dtype", "num_windows", "valid_share", *RANGES,
    "source_note", "grid", "crs", "transform", "seconds", "zarr_path",
)  # fmt: skip
"""Columns that metrics.parquet takes from the ledger, beside pair_id and fingerprint."""
METRICS_COLUMNS = ("pair_id", *MEASURED, *URLS, "fingerprint")
"""Columns of metrics.parquet, before those that the index carries."""
NUMBERS = frozenset(
    f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")
) | {"INTEGER", "UINTEGER", "FLOAT", "DOUBLE"}
"""SQL types of numbers: a column may turn from one into another."""


def write_tables(database: Database, output: Output) -> None:
    """Write metrics.parquet and rejected.parquet.

    The metrics hold the pairs of the whole index, in its order, and those that left it and were not
    pruned, each with the fingerprint that it was made under. URLs are written without what may be secret.

    Args:
        database: holds the tables that `make_plan` leaves, made of the whole index and the whole ledger.
        output: whose tables are replaced.

    Raises:
        ValueError: a carried column has another type in the table, for pairs that left the index.
        StorageError: a table cannot be written.
    """
    _replace_table(database, _metrics(database, output), output.metrics)
    rejected = (
        f"select __row, c.pair_id, l.reason, l.detail, {', '.join(URLS)} from current c "
        f"join pairs p using (__row) join ledger l on {HAS_LEDGER_ROW.format('c')} "
        "where c.status = 'rejected' union all by name from unmatched"
    )
    _replace_table(database, rejected, output.rejected)


def metric_means(database: Database) -> dict[str, float]:
    """Return the mean of each metric over the fused pairs of the index where it is finite."""
    means = [
        f"avg({quoted(name)}) filter (isfinite({quoted(name)})) as {quoted(name)}" for name in METRICS
    ]
    (row,) = database.frame(
        f"select {', '.join(means)} from current c join ledger l on {HAS_LEDGER_ROW.format('c')} "
        "where c.status = 'fused'"
    ).to_dict("records")
    return {name: float(mean) for name, mean in row.items() if mean == mean and mean is not None}


def write_record(
    output: Output,
    run_id: str,
    config: FuseConfig,
    fingerprint: Fingerprint,
    summary: Summary,
    did: dict[str, float],
    exit_reason: str,
    seconds: float,
) -> None:
    """Write OUT/runs/<run_id>.json: that it is there with `finished` says that all the rest is.

    `summary` is how things stand with all pairs, and `did` what this run alone has added.
    """
    record = {
        "run_id": run_id,
        "exit_reason": exit_reason,
        "seconds": round(seconds, 3),
        "counts": asdict(summary),
        "did": did,
        "config": without_secrets(config),
        "fingerprint": {"digest": fingerprint.digest, **fingerprint.fields},
        "versions": {
            "dmnet-archive": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
        },
    }
    objects.put_bytes(output.record(run_id), json.dumps(record, indent=1).encode())


def _metrics(database: Database, output: Output) -> str:
    """Return the query for the rows of metrics.parquet, with `__row`."""
    of_index = database.columns("from pairs")
    reserved = {name.lower() for name in (*METRICS_COLUMNS, *SCHEMA, "__row")}
    carried = {name: kind for name, kind in of_index.items() if name.lower() not in reserved}
    measured = ", ".join(f"l.{quoted(name)}" for name in MEASURED)

    def query(extra: list[str]) -> str:
        columns = [f"p.{name}" for name in URLS] + ["l.fingerprint", *extra]
        return (
            f"select __row, c.pair_id, {measured}, {', '.join(columns)} from current c "
            f"join pairs p using (__row) join ledger l on {HAS_LEDGER_ROW.format('c')} "
            "where c.status = 'fused'"
        )

    if not database.first("select count(*) from gone where status = 'fused'")[0]:
        return query([f"p.{quoted(name)}" for name in carried])
    before = _carried_before(database, output, reserved)
    casts = [_as_before(database, name, kind, before, output) for name, kind in carried.items()]
    beside = [f"b.{quoted(name)}" for name in (*URLS, *before)]
    kept = (
        f"select null::bigint as __row, g.pair_id, {measured}, {', '.join(beside)}, l.fingerprint "
        f"from gone g join ledger l on {HAS_LEDGER_ROW.format('g')} "
        "left join before b on b.pair_id = g.pair_id where g.status = 'fused'"
    )
    return f"{query(casts)} union all by name {kept}"


def _carried_before(database: Database, output: Output, reserved: set[str]) -> dict[str, str]:
    """Make the table `before` of what metrics.parquet holds of the pairs that left the index.

    Returns:
        The carried columns of it that hold a value, with their SQL types.
    """
    if not database.open("stored_metrics", output.metrics):
        database.run("create or replace view stored_metrics as select pair_id, '' as ir_url, '' as "
                     "vis_url from gone limit 0")  # fmt: skip
    database.run(
        "create or replace table before as from stored_metrics semi join gone using (pair_id) "
        "qualify row_number() over (partition by pair_id) = 1"
    )
    columns = database.columns("from before")
    carried = [name for name in columns if name.lower() not in reserved]
    counted = ", ".join(["count(*)", *(f"count({quoted(name)})" for name in carried)])
    _, *counts = database.first(f"select {counted} from before")
    return {name: columns[name] for name, count in zip(carried, counts, strict=True) if count}


def _as_before(
    database: Database, name: str, kind: str, before: dict[str, str], output: Output
) -> str:
    """Return the SQL of a carried column of the index, in a type that the one before fits.

    Raises:
        ValueError: the types differ, and one of them is no number.
    """
    column = f"p.{quoted(name)}"
    known = {other.lower(): other_kind for other, other_kind in before.items()}.get(name.lower(), kind)
    if known == kind:
        return column
    if not database.first(f"select count({quoted(name)}) from pairs")[0]:
        return f"null::{known} as {quoted(name)}"
    if not {kind, known} <= NUMBERS:
        raise ValueError(
            f"column {name!r} of the index is {kind}, and {known} in "
            f"{urls.redact_url(output.metrics)!r} for pairs that left the index, expected one type: "
            "give the index's column that type, or remove these pairs with --prune"
        )
    return column


def _replace_table(database: Database, query: str, folder_url: str) -> None:
    """Make the rows of a query all of a table's folder: one file, put at once, so no reader sees two."""
    shown = ", ".join(
        f"case when regexp_matches({name}, '://.*[?@:]', 's') then redact_url({name}) "
        f"else coalesce({name}, '') end as {name}"
        for name in URLS
    )
    database.write(
        f"select * exclude (__row) replace ({shown}) from ({query}) order by __row nulls last, pair_id",
        urls.join_url(folder_url, TABLE_PART),
    )
    for file in list(objects.find_files(folder_url)):
        if file.path != TABLE_PART:  # of an earlier version, whose parts bore the run's name
            objects.delete(file.url)
