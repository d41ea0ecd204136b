"""The Zarr store of fused images: one group a pair. Frames are written here, scenes in `scene_store`.

The arrays of a frame have one chunk each:

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
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from cluster.storage import objects, pair_files, urls
from cluster.storage.array_objects import add_array, gdal_view, read_array
from cluster.storage.pair_files import OVERVIEWS, RESERVED_BELOW, RESERVED_SEGMENTS, VALID

MAX_SEGMENT_BYTES = 180
"""Longest escaped segment of a pair_id; local file systems end at 255."""
PLAIN_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+=,@()"
)
MAX_BANDS = 4
BANDS_FIRST = (2, 0, 1)
"""Axes of (y, x, band) in the order (band, y, x)."""
VALID_ATTRIBUTES = {
    "long_name": "whether the fused pixel stands for data of its sources",
    "flag_values": [0, 1],
    "flag_meanings": "no_data valid",
}
PIXELS = re.compile(r"(.+)/fused/(?:zarr\.json|(c/\d+/\d+(?:/\d+)?))")
"""Objects of a pair's image: its metadata, and its chunks; the second group is the key of a chunk."""
OF_OVERVIEW = re.compile(rf".+/{OVERVIEWS}/\d+")
"""Groups that hold a smaller size of a scene."""


def escape_pair_id(pair_id: str) -> str:
    """Return the group of a pair below the store: no name leaves it, no two pairs share one.

    Each segment between slashes keeps letters, digits and -_.+=,@() and has every other byte as
    %XX; a leading dot and Zarr's own names are escaped too. A long segment is cut, with its digest.
    """
    first, *others = pair_id.split("/")
    return "/".join(
        [
            _escape_segment(first, RESERVED_SEGMENTS),
            *(_escape_segment(segment, RESERVED_BELOW) for segment in others),
        ]
    )


def create_store(store_url: str, attributes: dict[str, Any]) -> None:
    """Write the root group with its attributes."""
    pair_files.put_group(store_url, attributes)


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
            pair_files.put_group(url, {})

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
    """Write the group of a frame with its array `fused`, and return the bytes stored.

    Each array is one chunk, one object, put whole before the metadata that names it; running it twice
    leaves the same. What an earlier result of the pair has besides, as the chunks of a scene, is removed.

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
    _add_chunk(group, "fused", pixels, {} if valid is None else {"ancillary_variables": VALID})
    views = {pair_files.LAYOUT: _view(pixels)}
    pair_files.make_room_for_frame(group_url, views[pair_files.LAYOUT])
    if valid is None:
        _delete_valid(group_url)
    else:
        assert valid.shape == pixels.shape[:2], (valid.shape, pixels.shape)
        flags = valid.astype(np.uint8)  # GDAL reads no bool
        _add_chunk(group, VALID, flags, VALID_ATTRIBUTES)
        views[f"{VALID}/c/.zarray"] = _view(flags)
    encoded = views | {key: value.to_bytes() for key, value in stored.items()}
    for key in sorted(encoded, key=_order_of_puts):
        objects.put_bytes(urls.join_url(group_url, key), encoded[key])
    return sum(map(len, encoded.values()))


def delete_fused(store_url: str, zarr_path: str) -> None:
    """Remove the pixels of a pair, a frame or a scene, and, where no pair lies below it, its group."""
    group_url = urls.join_url(store_url, zarr_path)
    found = [file for file in objects.find_files(group_url) if file.path != "zarr.json"]
    own = pair_files.own_files(found)
    if not own:
        return  # its group, where there is one, is the parent of others
    pair_files.remove(group_url, own)
    if len(own) == len(found):
        objects.delete(urls.join_url(group_url, "zarr.json"))
    else:
        pair_files.put_group(group_url, {})
    if not urls.is_remote(store_url):
        pair_files.remove_empty_folders(urls.local_path(group_url))


def list_fused(store_url: str) -> list[str]:
    """Return the zarr_path of every pair that a store has pixels of; an unfinished scene is none."""
    end = "/fused/zarr.json"
    paths = [file.path for file in objects.list_files(store_url)]
    places = [path.removesuffix(end) for path in paths if path.endswith(end)]
    return [place for place in places if not OF_OVERVIEW.fullmatch(place)]


def find_objects(store_url: str) -> Iterator[tuple[str, str]]:
    """Yield the zarr_path and the part of every object that a pair needs, and that is not empty.

    Parts are `array` and `group`, the metadata of both, and the key of each chunk of `fused`, as c/0/0:
    a frame has one chunk, a scene one for each of its windows. A pair is complete where all are there.
    """
    for file in objects.find_files(store_url):
        if not file.size:
            continue
        if found := PIXELS.fullmatch(file.path):
            if not OF_OVERVIEW.fullmatch(found[1]):
                yield found[1], found[2] or "array"
        elif file.path.endswith("/zarr.json"):
            yield file.path.removesuffix("/zarr.json"), "group"


def read_fused(
    store_url: str, zarr_path: str, *, max_pixels: int | None = None
) -> NDArray[np.generic]:
    """Return the pixels of a pair, (H, W) or (H, W, bands).

    Raises:
        FileNotFoundError: there are none, or a chunk is not there.
        StorageError: the array is no fused image, or has more than max_pixels.
    """
    return _read_image(urls.join_url(store_url, zarr_path, "fused"), max_pixels)


def read_valid(
    store_url: str, zarr_path: str, *, max_pixels: int | None = None
) -> NDArray[np.bool_] | None:
    """Return which pixels of a pair stand for data, (H, W); None where no such array is stored.

    Raises:
        FileNotFoundError: a chunk is not there.
        StorageError: the array is none of flags, or has more than max_pixels.
    """
    group_url = urls.join_url(store_url, zarr_path)
    if not _has_valid(group_url):
        return None
    flags: NDArray[np.bool_] = _read_image(urls.join_url(group_url, VALID), max_pixels).astype(np.bool_)
    return flags


def _read_image(url: str, max_pixels: int | None) -> NDArray[np.generic]:
    """Return an array (y, x) or (y, x, band) as it is, and one of (band, y, x) with its bands last."""
    metadata = objects.read_bytes(urls.join_url(url, "zarr.json"))
    shape, is_band_first = _array_shape(url, metadata)
    if max_pixels is not None and shape[0] * shape[1] > max_pixels:
        raise urls.StorageError(
            f"array {urls.redact_url(url)!r} has {shape[0]} x {shape[1]} pixels, expected at "
            f"most {max_pixels}: raise --max-pixels where memory allows"
        )
    values = read_array(url, metadata)
    return np.ascontiguousarray(np.moveaxis(values, 0, 2)) if is_band_first else values


def _add_chunk(
    group: zarr.Group, name: str, pixels: NDArray[np.generic], attributes: dict[str, Any]
) -> None:
    """Add (H, W) or (H, W, bands) to a group as an array of one chunk, band by band in its bytes."""
    array = add_array(
        group,
        name,
        pixels.shape,
        pixels.dtype,
        chunks=pixels.shape,
        dimensions=("y", "x", "band")[: pixels.ndim],
        attributes=attributes,
        order=BANDS_FIRST if pixels.ndim == 3 else None,
    )
    array[:] = pixels


def _view(pixels: NDArray[np.generic]) -> bytes:
    """Return the metadata by which GDAL reads the chunk that `_add_chunk` stores."""
    shape = [pixels.shape[axis] for axis in BANDS_FIRST] if pixels.ndim == 3 else pixels.shape
    return gdal_view(shape, shape, pixels.dtype)


def _order_of_puts(key: str) -> tuple[bool, bool, bool, bool]:
    """Order the objects of a frame: layout, then the mask before the image, the group last."""
    is_mask = key.startswith(f"{VALID}/")
    return key != pair_files.LAYOUT, "/" not in key, not is_mask, key.endswith("zarr.json")


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
            pair_files.remove_empty_folders(urls.local_path(urls.join_url(group_url, VALID)))


def _array_shape(url: str, metadata: bytes) -> tuple[list[int], bool]:
    """Return the shape of an image, its bands last, and whether they are first in the array."""
    try:
        document = json.loads(metadata)
        shape: list[int] = [int(side) for side in document["shape"]]
        is_band_first = len(shape) == 3 and (document.get("dimension_names") or [""])[0] == "band"
    except (ValueError, KeyError, TypeError, AttributeError):
        shape, is_band_first = [], False
    if is_band_first:
        shape = [*shape[1:], shape[0]]
    if len(shape) not in (2, 3) or any(bands > MAX_BANDS for bands in shape[2:]):
        raise urls.StorageError(
            f"{urls.redact_url(url)!r} has a zarr.json of no (y, x), (y, x, band) or (band, y, x) array, "
            "expected one that jobs/fuse_archive.py wrote: fuse the pair again"
        )
    return shape, is_band_first


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
