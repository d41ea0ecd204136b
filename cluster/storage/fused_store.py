"""The Zarr store of fused images: one group a pair, one shard a window, put as whole objects.

The only module that knows zarr. The arrays are built in memory and put through storage, so that a
reader sees the whole of one or nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from cluster.storage import objects, urls

CHUNK = 256
"""Pixels on a side of a Zarr chunk; a shard is the whole window, rounded up to chunks."""
MAX_SEGMENT_BYTES = 180
"""Longest escaped segment of a pair_id; local file systems end at 255."""
PLAIN_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=,@()"
)
MAX_BANDS = 4
PAIR_OBJECTS = {
    "array": ("/fused/zarr.json",),
    "shard": ("/fused/c/0/0", "/fused/c/0/0/0"),
    "group": ("/zarr.json",),
}
"""The three objects of a pair, and how the key of each ends."""
RESERVED_SEGMENTS = frozenset({"fused", "c", "zarr.json"})


def escape_pair_id(pair_id: str) -> str:
    """Return the group of a pair below the store: no name leaves it, no two pairs share one.

    Each segment between slashes keeps letters, digits and -_.+=,@() and has every other byte as
    %XX; a leading dot and Zarr's own names are escaped too. A long segment is cut, with its digest.
    """
    return "/".join(_escape_segment(segment) for segment in pair_id.split("/"))


def create_store(store_url: str, attributes: dict[str, Any]) -> None:
    """Write the root group with its attributes."""
    _put_group(store_url, attributes)


def create_groups(store_url: str, paths: Iterable[str]) -> None:
    """Write groups, and those between the root and them, that are not there yet."""
    wanted: set[str] = set()
    for path in paths:
        while path and path not in wanted:
            wanted.add(path)
            path = path.rpartition("/")[0]

    def create(path: str) -> None:
        url = urls.join_url(store_url, path)
        if not objects.exists(urls.join_url(url, "zarr.json")):
            _put_group(url, {})

    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        list(pool.map(create, sorted(wanted)))


def read_store_attributes(store_url: str) -> dict[str, Any] | None:
    """Return the root group's attributes, None where there is no store."""
    try:
        data = objects.read_bytes(urls.join_url(store_url, "zarr.json"))
    except FileNotFoundError:
        return None
    try:
        attributes: dict[str, Any] = json.loads(data)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise urls.StorageError(
            f"store {urls.redact_url(store_url)!r} has a zarr.json that is no Zarr v3 group, expected "
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
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        pixels: (H, W) or (H, W, bands).
        attributes: attributes of the group.
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
    encoded = {key: value.to_bytes() for key, value in stored.items()}
    group_url = urls.join_url(store_url, zarr_path)
    ordered = sorted(encoded, key=lambda key: (key.endswith("zarr.json"), key.count("/") == 0))
    if not urls.is_remote(store_url) and _changed_rank(urls.local_path(group_url), pixels.ndim):
        _remove_tree(urls.local_path(urls.join_url(group_url, "fused", "c")))
    for key in ordered:
        objects.put_bytes(urls.join_url(group_url, key), encoded[key])
    return sum(map(len, encoded.values()))


def delete_fused(store_url: str, zarr_path: str) -> None:
    """Remove the pixels of a pair and, where no pair lies below it, its group."""
    group_url = urls.join_url(store_url, zarr_path)
    found = [file for file in objects.find_files(group_url) if file.path != "zarr.json"]
    own = [file for file in found if file.path.startswith(("fused/", objects.HALF_PUT))]
    if not own:
        return  # its group, where there is one, is the parent of others
    for file in sorted(own, key=lambda file: not file.path.endswith("zarr.json")):
        objects.delete(file.url)
    if len(own) == len(found):
        objects.delete(urls.join_url(group_url, "zarr.json"))
    if not urls.is_remote(store_url):
        _remove_empty_folders(urls.local_path(group_url))


def list_fused(store_url: str) -> list[str]:
    """Return the zarr_path of every pair that a store has pixels of."""
    end = "/fused/zarr.json"
    paths = [file.path for file in objects.list_files(store_url)]
    return [path.removesuffix(end) for path in paths if path.endswith(end)]


def find_objects(store_url: str) -> Iterator[tuple[str, str]]:
    """Yield the zarr_path and the part, one of PAIR_OBJECTS, of every object that is not empty.

    A pair is complete where all parts are there.
    """
    for file in objects.find_files(store_url):
        for part, ends in PAIR_OBJECTS.items() if file.size else ():
            end = next((end for end in ends if file.path.endswith(end)), "")
            if end:
                yield file.path[: -len(end)], part
                break


def read_fused(
    store_url: str, zarr_path: str, *, max_pixels: int | None = None
) -> NDArray[np.generic]:
    """Return the pixels of a pair.

    Raises:
        FileNotFoundError: there are none.
        StorageError: the array is no fused image, or has more than max_pixels.
    """
    group_url = urls.join_url(store_url, zarr_path)
    metadata = objects.read_bytes(urls.join_url(group_url, "fused", "zarr.json"))
    shape = _array_shape(urls.join_url(group_url, "fused"), metadata)
    if max_pixels is not None and shape[0] * shape[1] > max_pixels:
        raise urls.StorageError(
            f"array {urls.redact_url(group_url)!r} has {shape[0]} x {shape[1]} pixels, expected at "
            f"most {max_pixels}: raise --max-pixels where memory allows"
        )
    rank = len(shape)
    shard_key = "/".join(["c", *"0" * rank])
    shard = objects.read_bytes(urls.join_url(group_url, "fused", shard_key))
    new_buffer = default_buffer_prototype().buffer.from_bytes
    stored = {"zarr.json": new_buffer(metadata), shard_key: new_buffer(shard)}
    pixels: NDArray[np.generic] = np.asarray(zarr.open_array(MemoryStore(stored), mode="r")[:])
    return pixels


def _array_shape(url: str, metadata: bytes) -> list[int]:
    try:
        shape: list[int] = [int(side) for side in json.loads(metadata)["shape"]]
    except (ValueError, KeyError, TypeError):
        shape = []
    if len(shape) not in (2, 3) or any(bands > MAX_BANDS for bands in shape[2:]):
        raise urls.StorageError(
            f"{urls.redact_url(url)!r} has a zarr.json of no (y, x) or (y, x, band) array, expected "
            "one that jobs/fuse_archive.py wrote: fuse the pair again"
        )
    return shape


def _put_group(url: str, attributes: dict[str, Any]) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    objects.put_bytes(urls.join_url(url, "zarr.json"), json.dumps(document).encode())


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


def _remove_empty_folders(path: str) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


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
