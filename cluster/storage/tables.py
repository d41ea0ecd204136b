"""Parquet and CSV tables on local folders and object stores, and SQL over them by DuckDB.

A table is a .parquet or .csv file, or a folder of part-*.parquet. `Database` copies the files of a table
into a folder of its own before DuckDB reads them: so credentials, retries and time limits are those of
`objects`, and a file that is replaced meanwhile is read as it was.
"""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from cluster.storage import objects
from cluster.storage.urls import StorageError, redact_url
from cluster.text.plain_text import one_line

MEMORY_LIMIT = "600MB"
"""Memory of one DuckDB; what does not fit goes to its folder on disk."""
MAX_THREADS = 4
"""Most threads of one DuckDB: each needs a part of the memory for itself."""
ROWS_AT_ONCE = 20_000
"""Rows that are held as Python values at a time."""
ARROW_TYPES = {"str": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
"""Column types of tables that this project writes, by the names that it uses for them."""
SQL_TYPES = {"str": "varchar", "int64": "bigint", "float64": "double"}
"""SQL types of the columns of tables that this project writes, by the same names."""
TEXT_COLUMNS = ("camera", "ir_bands", "vis_bands", "ir_to_vis")
"""Columns of a CSV file, beside ids, URLs and etags, that are text also where it looks like numbers."""

Row = dict[str, Any]


class Database:
    """SQL over tables, in bounded memory; everything in it is temporary."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dmnet-tables-")
        self._connection = duckdb.connect(
            config={
                "memory_limit": MEMORY_LIMIT,
                "threads": min(MAX_THREADS, os.cpu_count() or 1),
                "temp_directory": f"{self._folder.name}/spilled",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        self._connection.create_function("redact_url", redact_url, ["VARCHAR"], "VARCHAR")
        self._numbers = itertools.count()
        self._copies: dict[str, str] = {}
        """Folder of the copied files of each view, by its name."""

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def run(self, sql: str, **values: Any) -> None:
        """Run a statement; `$name` in it stands for one of the values."""
        self._rows(sql, values)

    def first(self, sql: str, **values: Any) -> tuple[Any, ...]:
        """Return the only row of a query's result."""
        (row,) = self._rows(sql, values)
        return row

    def frame(self, sql: str, **values: Any) -> pd.DataFrame:
        """Return the whole result of a query in columns of pandas' own types."""
        with _one_line_errors():
            table: pa.Table = self._connection.sql(sql, params=values or None).to_arrow_table()
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def batches(self, sql: str) -> Iterator[list[Row]]:
        """Yield the result of a query in lists of at most ROWS_AT_ONCE rows."""
        for table in self._arrow(sql, ROWS_AT_ONCE):
            yield table.to_pylist()

    def columns(self, sql: str) -> dict[str, str]:
        """Return the names of a query's columns and their SQL types, in order."""
        return {name: kind for name, kind, *_ in self._rows(f"describe {sql}")}

    def add(self, name: str, rows: pd.DataFrame | pa.Table) -> None:
        """Make a table of rows in memory."""
        self._connection.register("rows_to_add", rows)
        try:
            self.run(f"create or replace table {name} as select * from rows_to_add")
        finally:
            self._connection.unregister("rows_to_add")

    def add_rows(
        self, name: str, columns: dict[str, str], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Make a table of rows that come one by one, of which few are held at a time.

        Args:
            name: name of the table.
            columns: the type of each column by its name: str, int64 or float64.
            rows: the columns' values, in their order.
        """
        kinds = ", ".join(f"{quoted(column)} {SQL_TYPES[kind]}" for column, kind in columns.items())
        self.run(f"create or replace table {name} ({kinds})")
        left = iter(rows)
        while held := list(itertools.islice(left, ROWS_AT_ONCE)):
            named = [dict(zip(columns, values, strict=True)) for values in held]
            self.add("more_rows", as_table(named, columns))
            self.run(f"insert into {name} from more_rows")
        self.run("drop table if exists more_rows")

    def open(self, name: str, url: str) -> bool:
        """Make a view of the table that lies at a URL; return whether there is one.

        Columns that a part of it lacks are null there, and a column of several types gets one that holds
        them all. Columns that pandas wrote for its index, with such a name or none, are left out.

        Raises:
            StorageError: the bytes are no such table, or cannot be read.
        """
        found = _table_files(url)
        if not found:
            return False
        if found[0].endswith(".csv"):
            with _parsing(url):
                self.add(name, _parse_csv(objects.read_bytes(found[0])))
            return True
        folder = os.path.join(self._folder.name, str(next(self._numbers)))
        os.mkdir(folder)
        paths = [os.path.join(folder, f"{number}.parquet") for number in range(len(found))]
        with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
            list(pool.map(objects.fetch, found, paths))
        with _parsing(url):
            schemas = [_schema(path) for path in paths]
            named = {name.lower(): name for schema in schemas for name in schema.names}
            # Else the first part's types hold, and 1.5 becomes an integer. Slower, so only where needed.
            by_name = any(not schema.equals(schemas[0]) for schema in schemas)
            wanted = [n for n in named.values() if n and not re.fullmatch(r"__index_level_\d+__", n)]
            columns = ", ".join(map(quoted, wanted))
            listed = ", ".join(map(_sql_text, paths))
            # Not by `_rows`, whose errors do not name the table.
            self._connection.execute(
                f"create or replace view {name} as select {columns} "
                f"from read_parquet([{listed}], union_by_name = {by_name})"
            ).fetchall()
        if name in self._copies:
            shutil.rmtree(self._copies[name])
        self._copies[name] = folder
        return True

    def open_columns(self, name: str, path: str, wanted: Sequence[str]) -> dict[str, str]:
        """Make a view of those of some columns that a local Parquet file has, and return their types.

        The other columns are not read, so that they may be of any type, as geometry.
        """
        source = f"read_parquet({_sql_text(path)})"
        kinds = self.columns(f"from {source}")
        found = {column: kinds[column] for column in wanted if column in kinds}
        columns = ", ".join(map(quoted, found)) or "1"
        self.run(f"create or replace view {name} as select {columns} from {source}")
        return found

    def close_to_files(self) -> None:
        """Keep every later statement from files, extensions and settings; tables stay, `write` fails.

        Views that `open` made read files too: copy what is needed into tables before.
        """
        for name in ("python_enable_replacements", "enable_external_access"):
            self.run(f"set {name} = false")
        self.run("set lock_configuration = true")

    def choose(self, name: str, source: str, condition: str, flag: str) -> None:
        """Make a table of the rows of a table that meet a condition from outside.

        Args:
            name: name of the new table.
            source: name of the table whose columns the condition may use.
            condition: an SQL expression; call `close_to_files` before, since it is not trusted.
            flag: what the error calls the condition.

        Raises:
            ValueError: the condition is no such expression.
        """
        said = ""
        try:
            # On a line of its own, or a comment at its end would hide the bracket.
            sql = f"create or replace table {name} as select * from {source} where (\n{condition}\n)"
            if len(duckdb.extract_statements(sql)) == 1:
                self._connection.execute(sql).fetchall()
                return
            said = "it is several statements"
        except duckdb.Error as error:
            said = one_line(str(error).partition("\n")[0])[:300]
        raise ValueError(
            f"{flag} {condition!r} can't be used ({said}), expected one SQL condition on the columns "
            f"{', '.join(map(quoted, self.columns(f'from {source}')))}"
        )

    def write(self, sql: str, url: str) -> None:
        """Write the result of a query as one Parquet file, put whole."""
        with objects.file_to_put(url) as path:
            options = "format parquet, compression zstd, use_tmp_file false"
            self._rows(f"copy ({sql}) to {_sql_text(path)} ({options})")

    def write_blocks(self, sql: str, url_prefix: str, rows_per_block: int) -> Iterator[str]:
        """Write the result of a query as Parquet files of so many rows each; yield the URL of each.

        Args:
            sql: the query.
            url_prefix: what the URLs begin with, before -000000.parquet.
            rows_per_block: rows of each file but the last.
        """
        for number, table in enumerate(self._arrow(sql, rows_per_block)):
            url = f"{url_prefix}-{number:06d}.parquet"
            objects.put_bytes(url, _as_parquet(table))
            yield url

    def _rows(self, sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with _one_line_errors():
            # All rows are fetched, since DuckDB refuses another statement before the last one's end.
            return self._connection.execute(sql, values or None).fetchall()

    def _arrow(self, sql: str, num_rows: int) -> Iterator[pa.Table]:
        """Yield a query's result in tables of so many rows, the last one of what is left."""
        with _one_line_errors():
            # A cursor of its own: another statement would end the reading of this one.
            reader = self._connection.cursor().sql(sql).to_arrow_reader(num_rows)
            for batch in reader:
                if len(batch):
                    yield pa.Table.from_batches([batch])


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever letters it holds."""
    return '"' + name.replace('"', '""') + '"'


def _sql_text(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def read_table(url: str) -> pd.DataFrame | None:
    """Return a table in columns of pandas' own types; None where there is none.

    Raises:
        StorageError: the bytes are no such table, or cannot be read.
    """
    with Database() as database:
        if not database.open("stored", url):
            return None
        with _parsing(url):
            return database.frame("from stored")


def read_blocks(block_urls: list[str]) -> pa.Table:
    """Return the rows of files that `Database.write_blocks` wrote."""
    blocks = (pa.BufferReader(objects.read_bytes(url)) for url in block_urls)
    return pa.concat_tables(map(pyarrow.parquet.read_table, blocks))


def write_table(url: str, frame: pd.DataFrame) -> None:
    """Write a table as one Parquet file, or CSV where the URL ends so; built in memory, put whole."""
    if url.endswith(".csv"):
        objects.put_bytes(url, frame.to_csv(index=False).encode())
    else:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        objects.put_bytes(url, _as_parquet(table))


def write_rows(url: str, rows: list[Row], columns: dict[str, str]) -> None:
    """Write rows as one Parquet file with exactly these columns, put whole.

    Args:
        url: URL of the file.
        rows: each with a value for every column.
        columns: the type of each column by its name: str, int64 or float64.
    """
    objects.put_bytes(url, _as_parquet(as_table(rows, columns)))


def as_table(rows: list[Row], columns: dict[str, str]) -> pa.Table:
    """Return rows as a table with exactly these columns and types, also where there is no row."""
    return pa.table(
        {
            name: pa.array([row[name] for row in rows], ARROW_TYPES[kind])
            for name, kind in columns.items()
        }
    )


def _as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _table_files(url: str) -> list[str]:
    """Return the URLs of the files that are a table: one file, or a folder's part-*.parquet."""
    if url.endswith((".parquet", ".csv")) and objects.is_file(url):
        return [url]
    return sorted(
        file.url for file in objects.find_files(url) if re.fullmatch(r"part-[^/]*\.parquet", file.path)
    )


def _parse_csv(data: bytes) -> pa.Table:
    names = pyarrow.csv.open_csv(io.BytesIO(data)).schema.names
    _refuse_equal_names(names)
    text = {
        name: pa.string()
        for name in names
        if name.endswith(("id", "url", "etag")) or name.lower() in TEXT_COLUMNS
    }
    options = pyarrow.csv.ConvertOptions(
        column_types=text, strings_can_be_null=False, include_columns=[name for name in names if name]
    )
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options)


def _schema(path: str) -> pa.Schema:
    """Return the columns of a Parquet file, whose names SQL can tell apart."""
    file = pyarrow.parquet.ParquetFile(path)
    described = base64.b64decode((file.metadata.metadata or {}).get(b"ARROW:schema", b""))
    if b"ARROW:extension:name" in described:  # Ray would unpickle its own
        raise ValueError("a column is of an Arrow extension type; numbers and text are read")
    schema: pa.Schema = file.schema_arrow
    _refuse_equal_names(schema.names)
    return schema


def _refuse_equal_names(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise ValueError(
                f"two columns are named {seen[name.lower()]!r} and {name!r}, which SQL takes for one"
            )
        seen[name.lower()] = name


@contextmanager
def _parsing(url: str) -> Iterator[None]:
    """Turn whatever a library finds wrong with a stored table into one line that names the table."""
    try:
        yield
    except StorageError:
        raise
    except (pa.ArrowException, duckdb.Error, OSError, ValueError) as error:
        kind = "CSV" if url.endswith(".csv") else "Parquet"
        raise StorageError(
            f"table {redact_url(url)!r} can't be read as {kind} ({one_line(error)[:300]}), expected a "
            "table as jobs/index_archive.py writes it: make it again"
        ) from error


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what DuckDB raises into one line that says what to do."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise StorageError(
            f"DuckDB can't go on ({one_line(error)[:300]}), expected room for its files in "
            f"{tempfile.gettempdir()!r}: make room there, or set TMPDIR to another folder"
        ) from error
    except duckdb.Error as error:
        raise StorageError(
            f"the tables can't be processed ({one_line(error)[:300]}), expected complete Parquet files, "
            "and columns whose types fit each other: look at the columns of the index"
        ) from error
    except RuntimeError as error:
        if "interrupted" in str(error).lower():  # how DuckDB reports Ctrl-C
            raise KeyboardInterrupt from error
        raise
