"""Where bytes lie: local folders and object stores, tables, and the Zarr store of fused images.

The only module that knows fsspec, zarr and pyarrow. A URL is a local path or s3://bucket/key (any
other fsspec scheme works too where its package is installed). Every write puts one whole object, so
nobody ever sees half of one.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

CHUNK = 256
"""Pixels on a side of a Zarr chunk; a shard is the whole window, rounded up to chunks."""
MAX_SEGMENT_BYTES = 180
"""Longest escaped segment of a pair_id; local file systems end at 255."""
NUM_THREADS = 16
PLAIN_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=,@()"
)
RESERVED_SEGMENTS = frozenset({"fused", "c", "zarr.json"})
S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 60,
        "retries": {"mode": "standard", "max_attempts": 4},
    },
}
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
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


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
        with open(local_path(url), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _storage_error(url, error) from error


def put_bytes(url: str, data: bytes) -> None:
    """Write a whole file, visible only once it is complete; makes the folders it needs.

    Raises:
        StorageError: it can't be written.
    """
    if is_remote(url):
        _guarded(url, lambda filesystem: filesystem.pipe_file(url, data))
        return
    path = local_path(url)
    temporary = ""
    try:
        folder = os.path.dirname(path) or "."
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".put-", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise _storage_error(url, error) from error


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
        return pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "CSV" if url.endswith(".csv") else "Parquet"
        raise StorageError(
            f"table {redact_url(url)!r} can't be read as {kind} ({_one_line(error)}), expected a "
            "table as jobs/index_archive.py writes it: make it again"
        ) from error


# The Zarr store


def escape_pair_id(pair_id: str) -> str:
    """Return the group of a pair below the store: no name leaves it, no two pairs share one.

    Each segment between slashes keeps letters, digits and -_.+=,@() and has every other byte as
    %XX; a leading dot and Zarr's own names are escaped too. A long segment is cut, with its digest.
    """
    return "/".join(_escape_segment(segment) for segment in pair_id.split("/"))


def create_store(store_url: str, attributes: dict[str, Any]) -> None:
    """Write the root group with its attributes."""
    _put_group(store_url, attributes)


def create_parent_groups(store_url: str, zarr_paths: Iterable[str]) -> None:
    """Write the groups between the root and the pairs' groups that are not there yet."""
    parents: set[str] = set()
    for path in zarr_paths:
        while "/" in path and (path := path.rpartition("/")[0]) not in parents:
            parents.add(path)

    def create(path: str) -> None:
        url = join_url(store_url, path)
        if not exists(join_url(url, "zarr.json")):
            _put_group(url, {})

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(create, sorted(parents)))


def read_store_attributes(store_url: str) -> dict[str, Any] | None:
    """Return the root group's attributes, None where there is no store."""
    try:
        data = read_bytes(join_url(store_url, "zarr.json"))
    except FileNotFoundError:
        return None
    try:
        attributes: dict[str, Any] = json.loads(data)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"store {redact_url(store_url)!r} has a zarr.json that is no Zarr v3 group, expected "
            "one that this job wrote: give another --output"
        ) from error
    return attributes


def write_fused(
    store_url: str, zarr_path: str, pixels: NDArray[np.generic], attributes: dict[str, Any]
) -> int:
    """Write the group of a pair with its array `fused`, and return the bytes stored.

    The window is one shard, one object, put whole before the metadata that names it; running it
    twice leaves the same.

    Args:
        store_url: of the store.
        zarr_path: as of `escape_pair_id`.
        pixels: (H, W) or (H, W, bands).
        attributes: of the group.
    """
    height, width, *bands = pixels.shape
    shard = (-(-height // CHUNK) * CHUNK, -(-width // CHUNK) * CHUNK, *bands)
    stored: dict[str, Buffer] = {}
    store = MemoryStore(stored)
    group = zarr.create_group(store, attributes=attributes)
    array = group.create_array(
        "fused",
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(CHUNK, CHUNK, *bands),
        shards=shard,
        compressors=ZstdCodec(level=3),
        dimension_names=("y", "x", "band")[: pixels.ndim],
        # Else zeros are not stored, and the pixels of an earlier run would stay.
        config={"write_empty_chunks": True},
    )
    array[:] = pixels
    objects = {key: value.to_bytes() for key, value in stored.items()}
    group_url = join_url(store_url, zarr_path)
    ordered = sorted(objects, key=lambda key: (key.endswith("zarr.json"), key.count("/") == 0))
    if not is_remote(store_url) and _changed_rank(local_path(group_url), pixels.ndim):
        _remove_tree(local_path(join_url(group_url, "fused", "c")))
    for key in ordered:
        put_bytes(join_url(group_url, key), objects[key])
    return sum(map(len, objects.values()))


def list_fused(store_url: str) -> list[str]:
    """Return the zarr_path of every pair that a store has pixels of."""
    end = "/fused/zarr.json"
    return [file.path.removesuffix(end) for file in list_files(store_url) if file.path.endswith(end)]


def read_fused(
    store_url: str, zarr_path: str, *, max_pixels: int | None = None
) -> NDArray[np.generic]:
    """Return the pixels of a pair.

    Raises:
        FileNotFoundError: there are none.
        StorageError: the array is no fused image, or has more than max_pixels.
    """
    group_url = join_url(store_url, zarr_path)
    metadata = read_bytes(join_url(group_url, "fused", "zarr.json"))
    shape = _array_shape(join_url(group_url, "fused"), metadata)
    if max_pixels is not None and shape[0] * shape[1] > max_pixels:
        raise StorageError(
            f"array {redact_url(group_url)!r} has {shape[0]} x {shape[1]} pixels, expected at most "
            f"{max_pixels}: raise --max-pixels where memory allows"
        )
    rank = len(shape)
    shard_key = "/".join(["c", *"0" * rank])
    shard = read_bytes(join_url(group_url, "fused", shard_key))
    new_buffer = default_buffer_prototype().buffer.from_bytes
    stored = {"zarr.json": new_buffer(metadata), shard_key: new_buffer(shard)}
    pixels: NDArray[np.generic] = np.asarray(zarr.open_array(MemoryStore(stored), mode="r")[:])
    return pixels


def _array_shape(url: str, metadata: bytes) -> list[int]:
    try:
        shape: list[int] = [int(side) for side in json.loads(metadata)["shape"]]
    except (ValueError, KeyError, TypeError):
        shape = []
    if len(shape) not in (2, 3):
        raise StorageError(
            f"{redact_url(url)!r} has a zarr.json of no (y, x) or (y, x, band) array, expected one "
            "that jobs/fuse_archive.py wrote: fuse the pair again"
        )
    return shape


def _put_group(url: str, attributes: dict[str, Any]) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    put_bytes(join_url(url, "zarr.json"), json.dumps(document).encode())


def _changed_rank(group_path: str, rank: int) -> bool:
    """Return whether the pair lies there with another number of dimensions (grey or colour)."""
    place = os.path.join(group_path, "fused", "c", "0", "0")
    return os.path.exists(place) and os.path.isdir(place) != (rank == 3)


def _remove_tree(path: str) -> None:
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))


def _escape_segment(segment: str) -> str:
    data = segment.encode("utf-8", "surrogateescape")
    if segment in RESERVED_SEGMENTS:
        escaped = f"%{data[0]:02X}{segment[1:]}"
    else:
        plain = [chr(byte) if chr(byte) in PLAIN_CHARACTERS else f"%{byte:02X}" for byte in data]
        if plain and plain[0] == ".":
            plain[0] = "%2E"
        if plain[:2] == ["_", "_"]:
            plain[0] = "%5F"  # Zarr keeps names with two leading underscores for itself
        escaped = "".join(plain) or "%"
    if len(escaped) > MAX_SEGMENT_BYTES:
        # "%%" is in no other escaped segment, so a cut one can't meet a whole one
        return f"{escaped[: MAX_SEGMENT_BYTES - 66]}%%{sha256(data).hexdigest()}"
    return escaped


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


@cache
def _filesystem(scheme: str) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(scheme, **(S3_OPTIONS if scheme in ("s3", "s3a") else {}))


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
    hint = "check the URL, the credentials and the endpoint" if is_remote(url) else "check the path"
    return StorageError(
        f"{redact_url(url)!r} can't be used ({type(error).__name__}: {_one_line(error)}): {hint}"
    )


def _one_line(error: Exception) -> str:
    """Return an error's text in one line, with what looks like a credential in a URL taken out."""
    text = " ".join(str(error).split())[:300]
    text = re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)
    return re.sub(r"\?[^\s'\")]*", "", text)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


