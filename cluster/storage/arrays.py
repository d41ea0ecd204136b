"""Zarr arrays that are read by windows, of version 2 or 3, on folders and object stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from cluster.storage import objects
from cluster.storage.s3 import filesystem, storage_error
from cluster.storage.urls import StorageError, is_remote, is_web, join_url, local_path, redact_url
from cluster.storage.versions import versions_below, versions_of

METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Objects of which every array and group has one."""
ATTRIBUTES = ".zattrs"
"""Object with the attributes of an array of version 2."""
CODECS = frozenset(
    "bytes transpose crc32c sharding_indexed blosc zstd gzip zlib lz4 bz2 lzma shuffle delta "
    "fixedscaleoffset bitround packbits".split()
)
"""Codecs that a foreign array may have; there are others that run what a file says, as pickle does."""
T = TypeVar("T")


@dataclass(frozen=True)
class StoredArray:
    """A Zarr array."""

    url: str
    """URL of the array."""
    shape: tuple[int, ...]
    """Number of entries along each dimension."""
    chunks: tuple[int, ...]
    """Shape of what is read at least."""
    dtype: np.dtype[np.generic]
    """Type of the entries."""
    dimensions: tuple[str, ...]
    """Names of the dimensions; empty where they have none."""
    attributes: dict[str, Any]
    """Attributes of the array."""
    array: Any
    """zarr's array."""

    def read(self, place: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part; chunks that are not stored have the array's fill value.

        Raises:
            StorageError: it can't be read, or its bytes are damaged.
        """
        values: NDArray[Any] = _called(self.url, lambda: np.asarray(self.array[place]))
        return values

    def num_missing(self) -> int:
        """Return how many chunks, or shards, are not stored: they are read as the array's fill value.

        Raises:
            StorageError: the array can't be listed.
        """
        sides = zip(self.shape, self.array.shards or self.chunks, strict=True)
        places = np.ndindex(*(-(-side // chunk) for side, chunk in sides))
        stored = {file.path for file in objects.find_files(self.url) if file.size != 0}
        return sum(self.array.metadata.encode_chunk_key(place) not in stored for place in places)


def open_array(url: str) -> StoredArray | dict[str, Any] | None:
    """Return an array, the attributes of a group, None where neither is there.

    Raises:
        StorageError: its metadata can't be read.
    """
    if not any(objects.exists(join_url(url, name)) for name in METADATA):
        return None
    found = _called(url, lambda: zarr.open(_store(url), mode="r"))
    attributes = dict(found.attrs)
    if isinstance(found, zarr.Group):
        return attributes
    _check_codecs(url, found.metadata.to_dict())
    names: Any = getattr(found.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    return StoredArray(
        url=url,
        shape=found.shape,
        chunks=found.chunks,
        dtype=found.dtype,
        dimensions=tuple(str(name) for name in names or ()),
        attributes=attributes,
        array=found,
    )


def array_versions(url: str) -> Iterator[str]:
    """Yield what tells the versions of an array's objects: its metadata and its chunks, by one listing.

    A web server can't be listed: of an array there, only the metadata is asked for.

    Raises:
        StorageError: the array can't be listed.
    """
    if is_web(url):
        yield from versions_of(join_url(url, name) for name in (*METADATA, ATTRIBUTES))
    else:
        yield from versions_below(url)


def _check_codecs(url: str, metadata: dict[str, Any]) -> None:
    """Raise StorageError where chunks pass through a codec that is not known to be harmless."""
    codecs = [metadata.get("compressor")]
    for key in ("filters", "codecs", "index_codecs"):
        codecs.extend(metadata.get(key) or ())
    for codec in codecs:
        if codec is None:
            continue
        said = codec if isinstance(codec, dict) else codec.get_config()
        name = str(said.get("id") or said.get("name")).removeprefix("numcodecs.")
        if name not in CODECS:
            raise StorageError(
                f"array {redact_url(url)!r} is stored with the codec {name[:60]!r}, expected one of "
                f"{', '.join(sorted(CODECS))}: store it anew with one of them"
            )
        if isinstance(said.get("configuration"), dict):
            _check_codecs(url, said["configuration"])


def _store(url: str) -> Store:
    if not is_remote(url):
        return LocalStore(os.path.abspath(local_path(url)), read_only=True)
    store = filesystem(url.split("://", 1)[0], asynchronous=True)
    return FsspecStore(store, path=store._strip_protocol(url).rstrip("/"), read_only=True)


def _called(url: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # zarr, its codecs and each store raise errors of their own
        raise storage_error(url, error) from error
