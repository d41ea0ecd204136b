"""STAC items of an output: one JSON file each, and all of them in one stac-geoparquet file.

    OUT/stac/<zarr_path>.json   one item
    OUT/stac/items.parquet      every item, for GeoPandas, DuckDB, rustac and QGIS

Both are put whole. Few items are held in memory at a time.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.storage import objects, urls

TABLE = "items.parquet"
CHUNK_ITEMS = 4096
"""Items that are held in memory at a time."""
HAS_FOLDER = re.compile(r"\.(json|parquet)(?=/)")
"""Ending of a segment of a zarr_path by which a folder could be named as a file of ours."""

Item = dict[str, Any]


def item_url(stac_url: str, zarr_path: str) -> str:
    """Return where the item of a pair is stored below OUT/stac."""
    return urls.join_url(stac_url, HAS_FOLDER.sub(r"%2E\1", zarr_path) + ".json")


def write_items(stac_url: str, items: Iterable[Item]) -> int:
    """Write items as JSON files and as one table; return their number.

    Without any item an earlier table is removed. JSON files of earlier items stay.

    Args:
        stac_url: URL of OUT/stac.
        items: as `cluster.archive.stac_item.stac_item` makes them, each read once.

    Raises:
        ValueError: the packages for STAC are not installed.
        StorageError: a file can't be written.
    """
    table_url = urls.join_url(stac_url, TABLE)
    left = iter(items)
    first = next(left, None)
    if first is None:
        objects.delete(table_url)
        return 0
    try:
        from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet
    except ImportError as error:
        raise ValueError(
            f"STAC items can't be written ({error}), expected the packages for STAC: "
            "pip install 'dmnet-archive[stac]'"
        ) from error
    counted = itertools.count()
    stored = _stored(stac_url, itertools.chain([first], left), counted)
    with tempfile.TemporaryDirectory(prefix="dmnet-stac-") as folder:
        with objects.file_to_put(table_url) as path:
            batches = parse_stac_items_to_arrow(
                stored, chunk_size=CHUNK_ITEMS, schema="ChunksToDisk", tmpdir=folder
            )
            to_parquet(batches, path, compression="zstd")
    return next(counted)


def _stored(stac_url: str, items: Iterator[Item], counted: Iterator[int]) -> Iterator[Item]:
    """Yield items once their JSON files are put, and count them."""

    def put(item: Item) -> None:
        url = item_url(stac_url, item["properties"]["dmnet:zarr_path"])
        objects.put_bytes(url, json.dumps(item, allow_nan=False).encode())

    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        while held := list(itertools.islice(items, CHUNK_ITEMS)):
            list(pool.map(put, held))
            for item in held:
                next(counted)
                yield item
