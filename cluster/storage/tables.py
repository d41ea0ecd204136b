"""Parquet and CSV tables, on local folders and object stores."""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from cluster.storage.objects import NUM_THREADS, file_to_put, find_parts, put_bytes, read_bytes
from cluster.storage.s3 import short_line, storage_error
from cluster.storage.urls import StorageError, is_remote, local_path, redact_url

SLICE_ROWS = 1000
"""Of a table that are unpacked at a time."""
ROWS_PER_GROUP = 5000
"""Of a table: its writer holds so many."""
PAGE_BYTES = 32_768
"""Of a table: its reader unpacks so much of each column at once, whatever it asks for."""


def read_table(url: str) -> pd.DataFrame | None:
    """Return a Parquet or CSV file, or all part-*.parquet of a folder; None where there is none.

    Raises:
        StorageError: the bytes are no such table, or can't be read.
    """
    tables = [_parse_table(part, data) for part, data in _find_table(url)]
    if not tables:
        return None
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    return frame


def read_parts(
    urls: Iterable[str], columns: Iterable[str], expected: Iterable[str]
) -> Iterator[pd.DataFrame]:
    """Yield some columns of Parquet files, in their order; a few files are read ahead.

    Args:
        urls: of the files.
        columns: that are read.
        expected: that each file must have.

    Raises:
        StorageError: a file is not there, is no such table, or lacks an expected column.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        tasks = ((url, pool.submit(read_bytes, url)) for url in urls)  # submitted as they are taken
        ahead = deque(itertools.islice(tasks, NUM_THREADS))
        while ahead:
            url, data = ahead.popleft()
            try:
                # Parsed here: memory that many threads take in turn is not given back.
                yield _parse_columns(url, data.result(), columns, expected)
            except FileNotFoundError as error:
                raise storage_error(url, error) from error
            ahead.extend(itertools.islice(tasks, 1))


def give_memory_back() -> None:
    """Let this process take the memory of its tables from the system: Arrow's own pool keeps it."""
    pa.set_memory_pool(pa.system_memory_pool())


def read_slices(url: str) -> Iterator[pd.DataFrame] | None:
    """Return the rows of a table that `read_table` would find, as frames of at most SLICE_ROWS.

    The first frame has no row, only the columns. Each is of the Arrow type that it is stored in,
    categories of that of their texts. What lies in the store is held as it lies there: its rows are never
    all unpacked, but for CSV.

    Raises:
        StorageError: as `read_table`, also while the slices are read.
    """
    found = _find_table(url)
    if not found:
        return None
    if not found[0][0].endswith(".csv"):
        return _unpack(found)
    table = _parse_table(*found[0])
    with _parsing(url):
        pieces = [_no_rows([table.schema])]
    pieces += [table.slice(start, SLICE_ROWS) for start in range(0, len(table), SLICE_ROWS)]
    return map(_typed, pieces)


def write_slices(url: str, frames: Iterable[pd.DataFrame]) -> None:
    """Write frames as one Parquet file, put whole once the last one came.

    Args:
        url: of the file.
        frames: of equal columns and types; the first may have no rows, to say what these are.
    """
    with file_to_put(url) as path, open(path, "wb") as file:
        _pack(frames, file)


class PackedTable:
    """A table in memory as compressed Parquet."""

    def __init__(self, frames: Iterable[pd.DataFrame]) -> None:
        """Take frames as `write_slices` does."""
        buffer = io.BytesIO()
        _pack(frames, buffer)
        self.data = buffer.getvalue()

    def slices(self) -> Iterator[pd.DataFrame]:
        """Return its rows as `read_slices` does."""
        return _unpack([("in memory", self.data)])


def plain(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return frames of `read_slices` as one whose columns are of pandas' own types."""
    table = pa.concat_tables([pa.Table.from_pandas(frame, preserve_index=False) for frame in frames])
    frame: pd.DataFrame = table.replace_schema_metadata().to_pandas()
    return frame


def joint_columns(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return a frame without rows that has the columns of all these, each of a type that holds theirs.

    Raises:
        ValueError: two columns of one name have no such type.
    """
    schemas = [pa.Schema.from_pandas(frame, preserve_index=False) for frame in frames]
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()
    except pa.ArrowException as error:
        raise ValueError(short_line(error)) from error
    return _typed(schema.empty_table())


def fitted(frame: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with the columns of `joint_columns`, null where it has none of that name."""
    none, table = (pa.Table.from_pandas(each, preserve_index=False) for each in (columns, frame))
    return _typed(pa.concat_tables([none, table], promote_options="permissive"))


def packed_blocks(
    frames: Iterable[pd.DataFrame], num_rows: int, least: int, most_blocks: int
) -> list[pa.Table]:
    """Return rows of plain values in at most `most_blocks` tables, each for `least` rows if they are few.

    A table is one row, which `unpack_rows` takes: names and URLs that resemble each other are small so,
    and a driver holds those of a whole archive.
    """
    tables = (
        pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata() for frame in frames
    )
    blocks = _of_size(tables, max(least, -(-num_rows // most_blocks)))
    return [pa.table({"packed": [_as_stream(block)]}) for block in blocks]


def unpack_rows(packed: pa.Table) -> pa.Table:
    """Return the rows that are in tables of `packed_blocks`."""
    return pa.concat_tables(
        pa.ipc.open_stream(stream.as_buffer()).read_all() for stream in packed["packed"]
    )


def write_table(url: str, frame: pd.DataFrame) -> None:
    """Write a table as one Parquet file, or CSV where the URL ends so; built in memory, put whole."""
    buffer = io.BytesIO()
    if url.endswith(".csv"):
        frame.to_csv(buffer, index=False)
    else:
        _pack([frame], buffer)
    put_bytes(url, buffer.getvalue())


def typed_frame(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return rows as a frame with exactly these columns and types, also where there is no row."""
    return pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=kind)
            for name, kind in columns.items()
        }
    )


def _find_table(url: str) -> list[tuple[str, bytes]]:
    """Return the URLs and bytes of the files that are a table: one, a folder's parts, or none."""
    if url.endswith((".parquet", ".csv")):
        try:
            if is_remote(url) or not os.path.isdir(local_path(url)):
                return [(url, read_bytes(url))]
        except FileNotFoundError:
            if not is_remote(url):
                return []
    parts = find_parts(url)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(zip(parts, pool.map(read_bytes, parts), strict=True))


def _parse_table(url: str, data: bytes) -> pa.Table:
    with _parsing(url):
        if url.endswith(".csv"):
            names = pyarrow.csv.open_csv(io.BytesIO(data)).schema.names
            text = {name: pa.string() for name in names if name.endswith(("id", "url", "etag"))}
            options = pyarrow.csv.ConvertOptions(column_types=text, strings_can_be_null=False)
            return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options)
        _refuse_extension_types(data)
        return pyarrow.parquet.read_table(pa.BufferReader(data))


def _parse_columns(
    url: str, data: bytes, columns: Iterable[str], expected: Iterable[str]
) -> pd.DataFrame:
    with _parsing(url):
        _refuse_extension_types(data)
        there = set(pyarrow.parquet.read_schema(pa.BufferReader(data)).names)
    if missing := sorted(set(expected) - there):
        raise StorageError(
            f"table {redact_url(url)!r} has no column {', '.join(missing)}, expected what this version "
            "writes: use another --output"
        )
    with _parsing(url):
        table = pyarrow.parquet.read_table(
            pa.BufferReader(data), columns=list(columns), use_threads=False
        )
        frame: pd.DataFrame = table.to_pandas(use_threads=False)
        return frame


def _pack(frames: Iterable[pd.DataFrame], file: IO[bytes]) -> None:
    """Write frames of equal columns as Parquet."""
    left = iter(frames)
    first = pa.Table.from_pandas(next(left), preserve_index=False)
    schema = first.schema.remove_metadata()
    rest = (pa.Table.from_pandas(frame, schema, preserve_index=False) for frame in left)
    with pyarrow.parquet.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=False, data_page_size=PAGE_BYTES
    ) as writer:
        for table in _of_size(itertools.chain([first], rest), ROWS_PER_GROUP):
            writer.write_table(table.replace_schema_metadata())


def _unpack(found: list[tuple[str, bytes]]) -> Iterator[pd.DataFrame]:
    """Return the rows of Parquet files, of which one may lack a column that another has."""
    with _parsing(found[0][0]):
        for _, data in found:
            _refuse_extension_types(data)
        schemas = [pyarrow.parquet.read_schema(pa.BufferReader(data)) for _, data in found]
        none = _no_rows(schemas)

    def slices() -> Iterator[pd.DataFrame]:
        yield _typed(none)
        for url, data in found:
            with _parsing(url):
                stored = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
                for batch in stored.iter_batches(SLICE_ROWS, use_threads=False):
                    rows = pa.Table.from_batches([batch]).replace_schema_metadata()
                    yield _typed(pa.concat_tables([none, rows], promote_options="default"))

    return slices()


def _no_rows(schemas: list[pa.Schema]) -> pa.Table:
    """Return a table with the columns of all schemas; Arrow refuses two of one name."""
    return pa.unify_schemas(schemas, promote_options="default").remove_metadata().empty_table()


def _typed(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame whose columns keep their Arrow types; categories are spelled out."""
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]
    columns = {}
    for name in names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns[name] = pd.Series(pd.arrays.ArrowExtensionArray(column))
    return pd.DataFrame(columns)


def _of_size(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Yield the rows of tables in tables of so many rows each, the last one of what is left."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= num_rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, num_rows)
            held = [whole.slice(num_rows)]
    if sum(map(len, held)):
        yield pa.concat_tables(held)


def _as_stream(table: pa.Table) -> bytes:
    """Return a table in Arrow's own format, compressed."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())  # each chunk would be compressed alone
    data: bytes = sink.getvalue().to_pybytes()
    return data


@contextmanager
def _parsing(url: str) -> Iterator[None]:
    """Have whatever Arrow finds wrong with a table named in one line."""
    try:
        yield
    except StorageError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "CSV" if url.endswith(".csv") else "Parquet"
        raise StorageError(
            f"table {redact_url(url)!r} can't be read as {kind} ({short_line(error)}), expected a "
            "table as jobs/index_archive.py writes it: make it again"
        ) from error


def _refuse_extension_types(data: bytes) -> None:
    """Raise ValueError where a column is of a type of some library's own: Ray unpickles its."""
    stored = pyarrow.parquet.read_metadata(pa.BufferReader(data)).metadata or {}
    if b"ARROW:extension:name" in base64.b64decode(stored.get(b"ARROW:schema", b"")):
        raise ValueError("a column is of an Arrow extension type; numbers and text are read")
