"""Where bytes lie: local folders and object stores, and tables.

The only module that knows fsspec and pyarrow; the Zarr store is in fused_store. A URL is a local path
or s3://bucket/key (any other fsspec scheme works too where its package is installed). Every write puts
one whole object, so nobody ever sees half of one.
"""

from __future__ import annotations

import base64
import errno
import io
import itertools
import os
import re
import socket
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, TypeVar

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.ipc
import pyarrow.parquet

from cluster.text.plain_text import one_line

HALF_PUT = ".put-"
"""How a local file is named that a process is writing, or died at."""
NUM_THREADS = 16
SILENCE_S = 15
"""A connection on which nothing moves for so long is given up, and the request sent again."""
S3_ROUNDS = 3
"""Times that s3fs has botocore try a request, and an object's body again from its start."""
PASSING_STATUS = (429, 500, 502, 503, 504)
SLICE_ROWS = 1000
"""Of a table that are unpacked at a time."""
ROWS_PER_GROUP = 5000
"""Of a table: its writer holds so many."""
PAGE_BYTES = 32_768
"""Of a table: its reader unpacks so much of each column at once, whatever it asks for."""

T = TypeVar("T")


class StorageError(ValueError):
    """A store or an object can't be used as asked; one line without credentials."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing."""

    path: str
    """Below the listed URL, with forward slashes."""
    url: str
    """Whole URL."""
    size: int
    """Bytes; -1 where the store can't say (a dangling link)."""
    etag: str
    """What the store calls this version of the bytes; changes when they change."""


def is_remote(url: str) -> bool:
    """Return whether a URL has a scheme other than file."""
    return "://" in url and not url.startswith("file://")


def local_path(url: str) -> str:
    """Return the path of a local URL."""
    return url.removeprefix("file://")


def absolute_url(url: str) -> str:
    """Return a local path as an absolute one, any other URL as it is."""
    return url if is_remote(url) else os.path.abspath(local_path(url))


def join_url(url: str, *parts: str) -> str:
    """Return the URL of something below `url`."""
    return "/".join([url.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def redact_url(url: str) -> str:
    """Return a URL without user, password and query, which may be secrets."""
    if not is_remote(url):
        return url
    scheme, rest = url.split("://", 1)
    if not any(mark in rest for mark in "?@:"):
        return url
    before, _, query = rest.partition("?")
    if "=" in query or scheme not in ("s3", "s3a"):  # there a ? may be a letter of the key
        rest = before
    host = rest.partition("/")[0]
    if "@" in host:
        rest = host.rpartition("@")[2] + rest[len(host) :]
    elif re.search(r"^[^\[].*:(?!\d*$)", host):  # no port: a password that holds a slash
        rest = rest.partition("@")[2]
    return f"{scheme}://{rest}"


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system as pyarrow has it, None for a local one, and the path on it."""
    if not is_remote(url):
        return None, local_path(url)
    filesystem = _filesystem(url.split("://", 1)[0])
    path = filesystem._strip_protocol(url)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path


def list_files(url: str) -> list[FileInfo]:
    """Return every file below a folder or prefix, sorted by path.

    Linked folders are followed once each, so that a loop of links ends.

    Raises:
        StorageError: there is no such folder, nothing below the prefix, or no way to it.
    """
    if is_remote(url):
        files = _find_remote(url)
        if not files:
            raise StorageError(
                f"nothing is below {redact_url(url)!r}, expected objects: check bucket and prefix"
            )
    else:
        root = local_path(url)
        if not os.path.isdir(root):
            kind = "a file" if os.path.exists(root) else "not there"
            raise StorageError(f"{root!r} is {kind}, expected a folder: check the path")
        files = list(_walk(root))
    return sorted(files, key=lambda file: file.path)


def exists(url: str) -> bool:
    """Return whether there is an object (or, locally, also a folder) of this URL."""
    if not is_remote(url):
        return os.path.exists(local_path(url))
    return bool(_guarded(url, lambda filesystem: filesystem.exists(url)))


def read_bytes(url: str) -> bytes:
    """Return a whole file.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it can't be read.
    """
    if is_remote(url):
        data: bytes = _guarded(url, lambda filesystem: filesystem.cat_file(url))
        return data
    try:
        # Without waiting, since a pipe may lie there, and nobody may write to it.
        handle = os.open(local_path(url), os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StorageError(f"{url!r} is no regular file, expected one: check the path")
        with os.fdopen(handle, "rb") as file:
            return file.read()
    except (FileNotFoundError, StorageError):
        raise
    except (OSError, ValueError) as error:
        raise _storage_error(url, error) from error


def put_bytes(url: str, data: bytes) -> None:
    """Write a whole file, visible only once it is complete; makes the folders it needs.

    Raises:
        StorageError: it can't be written.
    """
    if is_remote(url):
        _put(url, lambda filesystem: filesystem.pipe_file(url, data))
        return
    with _file_to_put(url) as path, open(path, "wb") as file:
        file.write(data)


def create_bytes(url: str, data: bytes) -> bool:
    """Write a small file where none is yet; return whether it was written: the store lets one win.

    Locally a reader may find it empty for a moment.

    Raises:
        StorageError: it can't be written.
    """
    if is_remote(url):
        try:
            _filesystem(url.split("://", 1)[0]).pipe_file(url, data, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise _storage_error(url, error) from error
        return True
    path = local_path(url)
    created = False
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "xb") as file:
            created = True
            file.write(data)
    except FileExistsError:
        return False
    except OSError as error:
        if created:  # the disk is full
            os.unlink(path)
        raise _storage_error(url, error) from error
    return True


def delete(url: str) -> None:
    """Remove a file; one that is not there is no error."""
    try:
        if is_remote(url):
            _guarded(url, lambda filesystem: filesystem.rm_file(url))
        else:
            os.unlink(local_path(url))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _storage_error(url, error) from error


# Tables


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
                raise _storage_error(url, error) from error
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
    with _file_to_put(url) as path, open(path, "wb") as file:
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
        raise ValueError(_one_line(error)) from error
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


def find_parts(url: str) -> list[str]:
    """Return the URLs of the part-*.parquet of a folder that may not be there yet."""
    return [file.url for file in list_parts(url) if re.fullmatch(r"part-[^/]*\.parquet", file.path)]


def list_parts(url: str) -> list[FileInfo]:
    """Return the files of a folder that may not be there yet."""
    if is_remote(url):
        return _find_remote(url)
    return list_files(url) if os.path.exists(local_path(url)) else []


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
            f"table {redact_url(url)!r} can't be read as {kind} ({_one_line(error)}), expected a "
            "table as jobs/index_archive.py writes it: make it again"
        ) from error


def _refuse_extension_types(data: bytes) -> None:
    """Raise ValueError where a column is of a type of some library's own: Ray unpickles its."""
    stored = pyarrow.parquet.read_metadata(pa.BufferReader(data)).metadata or {}
    if b"ARROW:extension:name" in base64.b64decode(stored.get(b"ARROW:schema", b"")):
        raise ValueError("a column is of an Arrow extension type; numbers and text are read")


# Access


@contextmanager
def _file_to_put(url: str) -> Iterator[str]:
    """Yield the path of a file to write, which is then put whole; makes the folders it needs."""
    remote, path = is_remote(url), local_path(url)
    folder = tempfile.gettempdir() if remote else os.path.dirname(path) or "."
    temporary = ""
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=HALF_PUT, dir=folder)
        os.close(handle)
        yield temporary
        if remote:
            _put(url, lambda filesystem: filesystem.put_file(temporary, url))
        else:
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        raise _storage_error(temporary if remote else url, error) from error
    finally:
        with suppress(OSError):  # it is in its place
            os.unlink(temporary)


def _put(url: str, call: Callable[[fsspec.AbstractFileSystem], None]) -> None:
    try:
        _guarded(url, call)
    except FileNotFoundError as error:  # the store has forgotten an upload in parts
        raise _storage_error(url, error) from error


def _walk(root: str) -> Iterator[FileInfo]:
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in files:
            path = os.path.join(folder, name)
            try:
                info = os.stat(path)
                size, etag = info.st_size, f"{info.st_mtime_ns:x}-{info.st_size:x}"
            except OSError:
                size, etag = -1, ""
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            yield FileInfo(relative, os.path.abspath(path), size, etag)


def _raise(error: OSError) -> None:
    raise _storage_error(str(error.filename), error) from error


def _find_remote(url: str) -> list[FileInfo]:
    """Return the objects below a prefix, none where nothing is there."""
    scheme = url.split("://", 1)[0]
    found = _guarded(url, lambda filesystem: filesystem.find(url, detail=True))
    prefix = _filesystem(scheme)._strip_protocol(url).rstrip("/") + "/"
    return [
        FileInfo(
            path=name.removeprefix(prefix),
            url=f"{scheme}://{name}",
            size=int(info.get("size", -1)),
            etag=str(info.get("ETag", info.get("etag", ""))).strip('"'),
        )
        for name, info in found.items()
        if info.get("type") == "file" and name.startswith(prefix) and not name.endswith("/")
    ]


def _new_socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that ends a PUT which the store doesn't read; aiohttp has no limit for that."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
    return made


S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,
    # An object is one GET: ranges side by side may be of two versions, and a cut one isn't repeated.
    "max_concurrency": 1,
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": SILENCE_S,
        # 6 attempts, with waits of up to 1, 2, 4, 8 and 16 s: with S3_ROUNDS about 45 s of patience
        "retries": {"mode": "standard", "max_attempts": 5},
        "connector_args": {"socket_factory": _new_socket},
    },
}


@cache
def _filesystem(scheme: str) -> fsspec.AbstractFileSystem:
    if scheme not in ("s3", "s3a"):
        return fsspec.filesystem(scheme)
    import s3fs

    # By itself s3fs tries again after SlowDown, not after the same answer to a HEAD, which has no body.
    s3fs.core.set_custom_error_handler(_may_pass)
    filesystem = fsspec.filesystem(scheme, **S3_OPTIONS)
    filesystem.retries = S3_ROUNDS
    return filesystem


def _may_pass(error: BaseException | None) -> bool:
    """Return whether a store's error may be gone at the next try: overload, a connection that broke."""
    import s3fs
    from botocore.exceptions import ClientError, ConnectionError  # type: ignore[import-untyped]

    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in PASSING_STATUS
    return isinstance(error, (ConnectionError, *s3fs.core.S3_RETRYABLE_ERRORS))


def _guarded(url: str, call: Callable[[fsspec.AbstractFileSystem], T]) -> T:
    """Call with the file system of a URL; any failure but a missing object is a StorageError."""
    try:
        return call(_filesystem(url.split("://", 1)[0]))
    except FileNotFoundError as error:
        if "bucket" in str(error).lower():
            raise _storage_error(url, error) from error
        raise
    # Each store's library raises its own errors, botocore's share no base with OSError.
    except Exception as error:
        raise _storage_error(url, error) from error


def _storage_error(url: str, error: Exception) -> StorageError:
    if is_remote(url):
        hint = "check the URL, the credentials and the endpoint"
        if _may_pass(error) or _may_pass(error.__cause__):
            hint += ", and run the same command again when the store is well"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room and run the same command again"
    else:
        hint = "check the path"
    return StorageError(
        f"{redact_url(url)!r} can't be used ({type(error).__name__}: {_one_line(error)}): {hint}"
    )


def _one_line(error: Exception) -> str:
    """Return an error's text in one line, with what looks like a credential in a URL taken out."""
    return one_line(error)[:300]


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
