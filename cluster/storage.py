"""Where bytes lie: local folders and object stores, and tables.

The only module that knows fsspec and pyarrow; the Zarr store is in fused_store. A URL is a local path
or s3://bucket/key (any other fsspec scheme works too where its package is installed). Every write puts
one whole object, so nobody ever sees half of one.
"""

from __future__ import annotations

import base64
import errno
import io
import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from cluster.plain_text import one_line

HALF_PUT = ".put-"
"""How a local file is named that a process is writing, or died at."""
NUM_THREADS = 16
SILENCE_S = 15
"""A connection on which nothing moves for so long is given up, and the request sent again."""
S3_ROUNDS = 3
"""Times that s3fs has botocore try a request, and an object's body again from its start."""
PASSING_STATUS = (429, 500, 502, 503, 504)

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
        try:
            _guarded(url, lambda filesystem: filesystem.pipe_file(url, data))
        except FileNotFoundError as error:  # the store has forgotten an upload in parts
            raise _storage_error(url, error) from error
        return
    path = local_path(url)
    temporary = ""
    try:
        folder = os.path.dirname(path) or "."
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=HALF_PUT, dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise _storage_error(url, error) from error


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
    if url.endswith((".parquet", ".csv")):
        try:
            if is_remote(url) or not os.path.isdir(local_path(url)):
                single: pd.DataFrame = _parse_table(url, read_bytes(url)).to_pandas()
                return single
        except FileNotFoundError:
            if not is_remote(url):
                return None
    parts = [
        file.url for file in list_parts(url) if re.fullmatch(r"part-[^/]*\.parquet", file.path)
    ]
    if not parts:
        return None
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        tables = list(pool.map(lambda part: _parse_table(part, read_bytes(part)), parts))
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    return frame


def give_memory_back() -> None:
    """Let this process take the memory of its tables from the system: Arrow's own pool keeps it."""
    pa.set_memory_pool(pa.system_memory_pool())


def row_blocks(rows: pd.DataFrame, least: int, most_blocks: int) -> list[pa.Table]:
    """Return a table's rows, of plain values, as at most so many tables of at least `least` rows."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata()
    per_block = max(least, -(-len(rows) // most_blocks))
    return [table.slice(start, per_block) for start in range(0, len(rows), per_block)]


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
        frame.to_parquet(buffer, index=False, compression="zstd")
    put_bytes(url, buffer.getvalue())


def typed_frame(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return rows as a frame with exactly these columns and types, also where there is no row."""
    return pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=kind)
            for name, kind in columns.items()
        }
    )


def _parse_table(url: str, data: bytes) -> pa.Table:
    try:
        if url.endswith(".csv"):
            names = pyarrow.csv.open_csv(io.BytesIO(data)).schema.names
            text = {name: pa.string() for name in names if name.endswith(("id", "url", "etag"))}
            options = pyarrow.csv.ConvertOptions(column_types=text, strings_can_be_null=False)
            return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=options)
        _refuse_extension_types(data)
        return pyarrow.parquet.read_table(pa.BufferReader(data))
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
