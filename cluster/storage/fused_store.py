"""The Zarr store of fused images: one group a pair, whose arrays have one chunk each, put whole.

The arrays are built in memory and put through storage, so that a
reader sees the whole of a chunk or nothing.

    <pair>/zarr.json           group with the attributes of the pair
    <pair>/fused/zarr.json     the image in Zarr v3: (y, x) or (y, x, band)
    <pair>/fused/c/0/0[/0]     its only chunk, whose bytes are in the order (band, y, x)
    <pair>/fused/c/.zarray     the same chunk as an array of Zarr v2, for GDAL: (y, x) or (band, y, x)
    <pair>/valid/...           the same four for the mask (y, x), where the pair has pixels without data

GDAL reads no Zarr v3 of today before 3.11 and no shards before 3.13, and takes the first of three
dimensions for the bands. As Zarr v2 it opens the folder `fused/c` as an image with its bands.
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
from zarr.codecs import TransposeCodec, ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from cluster.storage import objects, urls

ZSTD_LEVEL = 3
"""Compression of a chunk: higher is smaller and slower."""
MAX_SEGMENT_BYTES = 180
"""Longest escaped segment of a pair_id; local file systems end at 255."""
PLAIN_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=,@()"
)
MAX_BANDS = 4
BANDS_FIRST = (2, 0, 1)
"""Axes of (y, x, band) in the order (band, y, x)."""
PAIR_OBJECTS = {
    "array": ("/fused/zarr.json",),
    "chunk": ("/fused/c/0/0", "/fused/c/0/0/0"),
    "group": ("/zarr.json",),
}
"""The three objects that every pair has, and how the key of each ends."""
RESERVED_SEGMENTS = frozenset({"fused", "c", "zarr.json"})
VALID = "valid"
"""Array of a pair beside `fused`, and so no name of a segment below another one."""
VALID_ATTRIBUTES = {
    "long_name": "whether the fused pixel stands for data of its sources",
    "flag_values": [0, 1],
    "flag_meanings": "no_data valid",
}


def escape_pair_id(pair_id: str) -> str:
    """Return the group of a pair below the store: no name leaves it, no two pairs share one.

    Each segment between slashes keeps letters, digits and -_.+=,@() and has every other byte as
    %XX; a leading dot and Zarr's own names are escaped too. A long segment is cut, with its digest.
    """
    first, *others = pair_id.split("/")
    reserved = RESERVED_SEGMENTS | {VALID}
    return "/".join(
        [
            _escape_segment(first, RESERVED_SEGMENTS),
            *(_escape_segment(segment, reserved) for segment in others),
        ]
    )


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
    store_url: str,
    zarr_path: str,
    pixels: NDArray[np.generic],
    attributes: dict[str, Any],
    valid: NDArray[np.bool_] | None = None,
) -> int:
    """Write the group of a pair with its array `fused`, and return the bytes stored.

    Each array is one chunk, one object, put whole before the metadata that names it; running it twice
    leaves the same.

    Args:
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        pixels: (H, W) or (H, W, bands).
        attributes: attributes of the group.
        valid: (H, W), False where a pixel stands for no data. It is stored as the array `valid`; None
            removes one that an earlier result left.
    """
    group_url = urls.join_url(store_url, zarr_path)
    stored: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(stored), attributes=attributes)
    views = {"fused/c/.zarray": _v2_view(pixels)}
    _add_array(group, "fused", pixels, {} if valid is None else {"ancillary_variables": VALID})
    if valid is None:
        _delete_valid(group_url)
    else:
        assert valid.shape == pixels.shape[:2], (valid.shape, pixels.shape)
        flags = valid.astype(np.uint8)  # GDAL reads no bool
        _add_array(group, VALID, flags, VALID_ATTRIBUTES)
        views[f"{VALID}/c/.zarray"] = _v2_view(flags)
    encoded = {key: value.to_bytes() for key, value in stored.items()} | views
    if not urls.is_remote(store_url) and _changed_rank(urls.local_path(group_url), pixels.ndim):
        _remove_tree(urls.local_path(urls.join_url(group_url, "fused", "c")))
    for key in sorted(encoded, key=_order_of_puts):
        objects.put_bytes(urls.join_url(group_url, key), encoded[key])
    return sum(map(len, encoded.values()))


def delete_fused(store_url: str, zarr_path: str) -> None:
    """Remove the pixels of a pair and, where no pair lies below it, its group."""
    group_url = urls.join_url(store_url, zarr_path)
    found = [file for file in objects.find_files(group_url) if file.path != "zarr.json"]
    beginnings = ["fused/", objects.HALF_PUT]
    if any(file.path.startswith(f"{VALID}/c/") for file in found):  # else it is a group of other pairs
        beginnings.append(f"{VALID}/")
    own = [file for file in found if file.path.startswith(tuple(beginnings))]
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
    """Return the pixels of a pair, (H, W) or (H, W, bands).

    Raises:
        FileNotFoundError: there are none.
        StorageError: the array is no fused image, or has more than max_pixels.
    """
    return _read_array(urls.join_url(store_url, zarr_path, "fused"), max_pixels)


def read_valid(
    store_url: str, zarr_path: str, *, max_pixels: int | None = None
) -> NDArray[np.bool_] | None:
    """Return which pixels of a pair stand for data, (H, W); None where no such array is stored.

    Raises:
        StorageError: the array is none of flags, or has more than max_pixels.
    """
    group_url = urls.join_url(store_url, zarr_path)
    if not _has_valid(group_url):
        return None
    flags: NDArray[np.bool_] = _read_array(urls.join_url(group_url, VALID), max_pixels).astype(np.bool_)
    return flags


def _read_array(url: str, max_pixels: int | None) -> NDArray[np.generic]:
    metadata = objects.read_bytes(urls.join_url(url, "zarr.json"))
    shape = _array_shape(url, metadata)
    if max_pixels is not None and shape[0] * shape[1] > max_pixels:
        raise urls.StorageError(
            f"array {urls.redact_url(url)!r} has {shape[0]} x {shape[1]} pixels, expected at "
            f"most {max_pixels}: raise --max-pixels where memory allows"
        )
    # Up to 0.1.0 this object was a shard of several chunks, which zarr reads alike.
    chunk_key = "/".join(["c", *"0" * len(shape)])
    chunk = objects.read_bytes(urls.join_url(url, chunk_key))
    new_buffer = default_buffer_prototype().buffer.from_bytes
    stored = {"zarr.json": new_buffer(metadata), chunk_key: new_buffer(chunk)}
    pixels: NDArray[np.generic] = np.asarray(zarr.open_array(MemoryStore(stored), mode="r")[:])
    return pixels


def _add_array(
    group: zarr.Group, name: str, pixels: NDArray[np.generic], attributes: dict[str, Any]
) -> None:
    """Add (H, W) or (H, W, bands) to a group as an array of one chunk, band by band in its bytes."""
    array = group.create_array(
        name,
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=pixels.shape,
        filters=[TransposeCodec(order=BANDS_FIRST)] if pixels.ndim == 3 else None,
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        dimension_names=("y", "x", "band")[: pixels.ndim],
        attributes=attributes,
        # Else zeros are not stored, and the pixels of an earlier run would stay.
        config={"write_empty_chunks": True},
    )
    array[:] = pixels


def _v2_view(pixels: NDArray[np.generic]) -> bytes:
    """Return the metadata of Zarr v2 by which GDAL reads the chunk that `_add_array` stores."""
    shape = [pixels.shape[axis] for axis in BANDS_FIRST] if pixels.ndim == 3 else pixels.shape
    document = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": shape,
        "dtype": pixels.dtype.newbyteorder("<").str,
        "order": "C",
        "dimension_separator": "/",
        "filters": None,
        "compressor": {"id": "zstd", "level": ZSTD_LEVEL},
        "fill_value": None,  # GDAL takes a value for no data
    }
    return json.dumps(document).encode()


def _order_of_puts(key: str) -> tuple[bool, bool, bool]:
    """Order the objects of a pair: the mask before the image, chunks before metadata, the group last."""
    return "/" not in key, not key.startswith(f"{VALID}/"), key.endswith("zarr.json")


def _has_valid(group_url: str) -> bool:
    """Return whether a pair has the array `valid`, and not a group of that name from an old version."""
    try:
        metadata = objects.read_bytes(urls.join_url(group_url, VALID, "zarr.json"))
    except FileNotFoundError:
        return False
    try:
        return bool(json.loads(metadata)["node_type"] != "group")
    except (ValueError, KeyError, TypeError):
        return True  # damaged: reading it says so


def _delete_valid(group_url: str) -> None:
    if _has_valid(group_url):
        for key in ("zarr.json", "c/.zarray", "c/0/0"):
            objects.delete(urls.join_url(group_url, VALID, key))
        if not urls.is_remote(group_url):
            _remove_empty_folders(urls.local_path(urls.join_url(group_url, VALID)))


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


def _escape_segment(segment: str, reserved: frozenset[str]) -> str:
    data = segment.encode("utf-8", "surrogateescape")
    if segment in reserved:
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
