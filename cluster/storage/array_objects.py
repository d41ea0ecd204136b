"""Zarr arrays as the objects that they are stored as: metadata, chunks, and the view of them for GDAL.

Arrays are made in memory and put through storage, so that a reader sees the whole of an object or
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
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


def add_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    *,
    chunks: tuple[int, ...],
    dimensions: tuple[str, ...],
    attributes: Mapping[str, Any],
    order: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Add an array to a group of a store in memory, and return it for its values.

    Args:
        group: group of a store in memory.
        name: name of the array.
        shape: number of entries along each dimension.
        dtype: type of the entries.
        chunks: shape of a chunk.
        dimensions: names of the dimensions.
        attributes: attributes of the array.
        order: axes of a chunk in the order of its bytes; None for the order of the array.
    """
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        filters=[TransposeCodec(order=order)] if order else None,
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=0,
        dimension_names=dimensions,
        attributes=dict(attributes),
        # Else zeros are not stored, and the pixels of an earlier run would stay.
        config={"write_empty_chunks": True},
    )


def encode_chunk(values: NDArray[np.generic]) -> bytes:
    """Return a whole chunk, in the order of its axes, as an array of `add_array` stores it."""
    stored: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(stored))
    names = ("",) * values.ndim
    array = add_array(
        group, "a", values.shape, values.dtype, chunks=values.shape, dimensions=names, attributes={}
    )
    array[...] = values
    return stored["/".join(["a/c", *"0" * values.ndim])].to_bytes()


def gdal_view(shape: Iterable[int], chunks: Iterable[int], dtype: np.dtype[Any]) -> bytes:
    """Return the metadata of Zarr v2 by which GDAL reads chunks of Zarr v3 beside it.

    Args:
        shape: number of entries along each dimension, in the order of the bytes.
        chunks: shape of a chunk, in the same order.
        dtype: type of the entries.
    """
    document = {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": list(chunks),
        "dtype": dtype.newbyteorder("<").str,
        "order": "C",
        "dimension_separator": "/",
        "filters": None,
        "compressor": {"id": "zstd", "level": ZSTD_LEVEL},
        "fill_value": None,  # GDAL takes a value for no data
    }
    return json.dumps(document).encode()


def read_array(
    url: str, metadata: bytes, place: tuple[slice, ...] | None = None
) -> NDArray[np.generic]:
    """Return an array, or a part of it, of whose chunks only those that it needs are read.

    Args:
        url: URL of the array.
        metadata: its zarr.json.
        place: a range of whole numbers for each dimension; None for all.

    Raises:
        FileNotFoundError: a chunk is not stored.
        StorageError: a chunk can't be read.
    """
    new_buffer = default_buffer_prototype().buffer.from_bytes
    stored = {"zarr.json": new_buffer(metadata)}
    array = zarr.open_array(MemoryStore(stored), mode="r")
    if place is None:
        place = tuple(slice(0, side) for side in array.shape)
    # Up to 0.1.0 an object of a frame was a shard of several chunks.
    sides = array.shards or array.chunks
    ranges = [
        range(part.start // side, -(-part.stop // side))
        for part, side in zip(place, sides, strict=True)
    ]
    keys = ("/".join(["c", *map(str, numbers)]) for numbers in product(*ranges))
    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        while some := list(islice(keys, 4 * objects.NUM_THREADS)):
            chunks = pool.map(lambda key: objects.read_bytes(urls.join_url(url, key)), some)
            stored |= dict(zip(some, map(new_buffer, chunks), strict=True))
    values: NDArray[np.generic] = np.asarray(array[place])
    return values


def put_all(group_url: str, encoded: Mapping[str, bytes]) -> int:
    """Put objects of a group, several at once, and return the bytes stored."""
    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        for _ in pool.map(
            lambda item: objects.put_bytes(urls.join_url(group_url, item[0]), item[1]), encoded.items()
        ):
            pass
    return sum(map(len, encoded.values()))
