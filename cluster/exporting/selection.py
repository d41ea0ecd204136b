"""Which pairs are exported: those of the metrics, the list and the condition, less what is up to date."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.archive.encoding import DTYPES, EXTENSIONS
from cluster.exporting.config import DEFAULT_QUALITY, ExportConfig
from cluster.exporting.record import COLUMNS, record_url
from cluster.storage import fused_store, objects, tables, urls
from cluster.storage.tables import Database


def open_tables(database: Database, config: ExportConfig) -> None:
    """Make the tables of an output and of what was exported before.

    `metrics` is metrics.parquet, `versions` has pair_id and version (see `record.py`), `exported` the
    latest row of every file in the record, `present` file and num_bytes of every file below --output, and
    `listed` the pair_ids of --pairs, where these are given.

    Raises:
        ValueError: --fused is no output of fuse_archive, or --pairs cannot be used.
    """
    if not database.open("stored", urls.join_url(config.fused_url, "metrics.parquet")):
        raise ValueError(
            f"--fused {urls.redact_url(config.fused_url)!r} has no metrics.parquet, expected an output "
            "of fuse_archive: give what was its --output, and run it without --partition first"
        )
    needed = {"pair_id", "zarr_path", "dtype", "height", "width"}
    missing = needed - database.columns("from stored").keys()
    if missing:
        raise ValueError(
            f"metrics.parquet of --fused {urls.redact_url(config.fused_url)!r} has no column "
            f"{', '.join(sorted(missing))}, expected what fuse_archive writes: run it again"
        )
    database.run("create or replace table metrics as from stored")
    if not database.open("ledger", urls.join_url(config.fused_url, "ledger")):
        database.run("create or replace view ledger as select '' as pair_id, 0.0 as recorded_at limit 0")
    database.run(
        "create or replace table versions as "
        "select pair_id, max(recorded_at) as version from ledger group by pair_id"
    )
    if not database.open("recorded", record_url(config.output_url)):
        database.add("recorded", tables.as_table([], COLUMNS))
    # Versions only rise, so that the latest row does not hang on the clocks of several machines.
    database.run(
        "create or replace table exported as from recorded "
        "qualify row_number() over (partition by file order by version desc, exported_at desc) = 1"
    )
    files = ((file.path, file.size) for file in objects.find_files(config.output_url))
    database.add_rows("present", {"file": "str", "num_bytes": "int64"}, files)
    if config.pairs_url is not None:
        names = ((name,) for name in _read_list(config.pairs_url))
        database.add_rows("listed", {"pair_id": "str"}, names)


def choose_pairs(database: Database, config: ExportConfig) -> None:
    """Make the tables of what the run is about, from those of `open_tables`.

    `chosen` has pair_id, zarr_path, dtype, height, width, version and file (the image's path below
    --output) of every pair that is chosen, `todo` the rows of it that are not up to date, and `unknown`
    the pair_ids of --pairs that are no fused pair. The database is closed to files from here on.

    Raises:
        ValueError: the condition cannot be used, or the format does not hold the pixels of a chosen pair.
    """
    database.close_to_files()
    if config.where is None:
        database.run("create or replace view meeting as from metrics")
    else:
        database.choose("meeting", "metrics", config.where, "--where")
    in_list, unknown = "true", "select pair_id from metrics limit 0"
    if config.pairs_url is not None:
        in_list = "pair_id in (select pair_id from listed)"
        unknown = "select distinct pair_id from listed anti join metrics using (pair_id)"
    database.run(f"create or replace table unknown as {unknown}")
    database.run(f"create or replace table named as select pair_id from meeting where {in_list}")
    database.add_rows(
        "files", {"pair_id": "str", "file": "str"}, _named_files(database, config.image_format)
    )
    database.run(
        "create or replace table chosen as "
        "select distinct on (pair_id) pair_id, zarr_path, dtype, height, width, version, file "
        "from metrics join files using (pair_id) left join versions using (pair_id)"
    )
    _check_dtypes(database, config.image_format)
    as_asked = f"e.format = '{config.image_format}' and e.quality = {quality_of(config)}"
    done = "false" if config.overwrite else f"e.version = c.version and {as_asked}"
    database.run(
        "create or replace table todo as from chosen c where not exists (from exported e join present p "
        f"using (file, num_bytes) where e.file = c.file and e.pair_id = c.pair_id and {done})"
    )


def quality_of(config: ExportConfig) -> int:
    """Return the quality of the JPEG files that an export writes, 0 where it writes others."""
    return (config.quality or DEFAULT_QUALITY) if config.image_format == "jpeg" else 0


def file_of(pair_id: str, image_format: str) -> str:
    """Return the path of a pair's image below --output: no name leaves it, no two pairs share one."""
    return f"{fused_store.escape_pair_id(pair_id)}.{EXTENSIONS[image_format]}"


def _named_files(database: Database, image_format: str) -> Iterator[tuple[str, str]]:
    for rows in database.batches("select distinct pair_id from named"):
        for row in rows:
            yield row["pair_id"], file_of(row["pair_id"], image_format)


def _read_list(url: str) -> list[str]:
    """Return the pair_ids of a text file, one a line; lines without letters count for nothing.

    Raises:
        ValueError: the file is not there, is no UTF-8, or holds no name.
    """
    shown = urls.redact_url(url)
    try:
        text = objects.read_bytes(url).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(
            f"--pairs {shown!r} is not there, expected a text file: check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--pairs {shown!r} is no text in UTF-8, expected one pair_id a line: save it as UTF-8"
        ) from error
    names = [line.removesuffix("\r") for line in text.split("\n")]
    names = [name for name in names if name.strip()]
    if not names:
        raise ValueError(f"--pairs {shown!r} names no pair, expected one pair_id a line")
    return names


def _check_dtypes(database: Database, image_format: str) -> None:
    """Raise ValueError where a chosen pair's pixels are of a type that the format does not hold."""
    allowed = DTYPES[image_format]
    (counts,) = database.first(
        "select list(format('{} are {}', number, dtype) order by dtype) from "
        "(select dtype, count(*) as number from chosen "
        f"where dtype not in {(*allowed, '')} group by dtype)"
    )
    if counts:
        (number,) = database.first("select count(*) from chosen")
        others = [name for name, dtypes in DTYPES.items() if len(dtypes) > len(allowed)]
        raise ValueError(
            f"--format is {image_format}, and of the {number} chosen pairs {', '.join(counts)}, expected "
            f"{' or '.join(allowed)}: give --format {' or '.join(others)}, or choose other pairs with "
            f"--where \"dtype = '{allowed[0]}'\""
        )
