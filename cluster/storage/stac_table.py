"""STAC items of an output: one JSON file each, and all of them in one stac-geoparquet file.

    OUT/stac/<zarr_path>.json   one item
    OUT/stac/items.parquet      every item, for GeoPandas, DuckDB, rustac and QGIS

Both are put whole. Few items are held in memory at a time.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from cluster.storage import objects, urls
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line

TABLE = "items.parquet"
CHUNK_ITEMS = 4096
"""Items that are held in memory at a time, and rows of a row group of the table."""
HAS_FOLDER = re.compile(r"\.(json|parquet)(?=/)")
"""Ending of a segment of a zarr_path by which a folder could be named as a file of ours."""
COLUMNS = ("id", "created", "dmnet:zarr_path")
"""Columns of the table by which it is compared with the ledger."""

Item = dict[str, Any]


class PackagesMissing(ValueError):
    """The packages for STAC are not installed."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            f"STAC items can't be made ({error}), expected the packages for STAC: "
            "pip install 'dmnet-archive[stac]'"
        )


def table_url(stac_url: str) -> str:
    """Return where the table of all items is stored below OUT/stac."""
    return urls.join_url(stac_url, TABLE)


def item_url(stac_url: str, zarr_path: str) -> str:
    """Return where the item of a pair is stored below OUT/stac."""
    return urls.join_url(stac_url, HAS_FOLDER.sub(r"%2E\1", zarr_path) + ".json")


def open_items(database: Database, stac_url: str, folder: str) -> str | None:
    """Make the table `items` of the items that an output has: id, zarr_path and created_us.

    Args:
        database: receives the table. created_us is the item's time of making, in microseconds since 1970.
        stac_url: URL of OUT/stac.
        folder: local folder that receives a copy of the stored table.

    Returns:
        The path of that copy, None where there is no stored table.

    Raises:
        StorageError: the stored table can't be read, or is none of ours.
    """
    url = table_url(stac_url)
    if not objects.is_file(url):
        database.run("create or replace table items (id text, zarr_path text, created_us bigint)")
        return None
    path = os.path.join(folder, TABLE)
    objects.fetch(url, path)
    try:
        found = database.open_columns("stored_items", path, COLUMNS)
        if lacking := [name for name in COLUMNS if name not in found]:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        database.run(
            'create or replace table items as select id, "dmnet:zarr_path" as zarr_path, '
            "epoch_us(created) as created_us from stored_items"
        )
    except ValueError as error:
        raise urls.StorageError(
            f"table {urls.redact_url(url)!r} can't be read ({one_line(error)[:300]}), expected the STAC "
            "items of this output: remove it, and the next run makes them anew"
        ) from error
    return path


def update_items(
    stac_url: str, new: Iterable[Item], *, stored: str | None = None, dropped: Mapping[str, str]
) -> int:
    """Bring the JSON files and the table of items up to date; return the number of new items.

    Items that are neither new nor dropped stay as they are, and their JSON files are not touched. Of a
    run that ends half way, the next one finds in the old table what is left to do. Without any item
    there is no table.

    Args:
        stac_url: URL of OUT/stac.
        new: items as `cluster.archive.stac_item.stac_item` makes them, each read once.
        stored: path of a copy of the present table, as `open_items` returns it; None for none.
        dropped: zarr_path by id of the stored items that are not to stay; a new one may take its place.

    Raises:
        PackagesMissing: the packages for STAC are not installed.
        StorageError: a file can't be written.
    """
    try:
        from stac_geoparquet.arrow import to_parquet
    except ImportError as error:
        raise PackagesMissing(error) from error
    url = table_url(stac_url)
    gone = set(dropped.values())
    num_stored = 0 if stored is None else pa.parquet.read_metadata(stored).num_rows
    num_new = 0
    with (
        tempfile.TemporaryDirectory(prefix="dmnet-stac-") as folder,
        ThreadPoolExecutor(objects.NUM_THREADS) as pool,
    ):
        for chunk in _chunks_of(new):
            list(pool.map(lambda item: _put(stac_url, item), chunk))
            _write_part(chunk, os.path.join(folder, f"{num_new:09d}.parquet"))
            num_new += len(chunk)
            gone.difference_update(map(_zarr_path, chunk))
        list(pool.map(objects.delete, (item_url(stac_url, zarr_path) for zarr_path in gone)))
        if not (num_new or dropped):
            return 0
        if num_new + num_stored == len(dropped):
            objects.delete(url)
            return 0
        schema, batches = _joined(stored, list(dropped), folder)
        with objects.file_to_put(url) as path:
            to_parquet(pa.RecordBatchReader.from_batches(schema, batches), path, compression="zstd")
    return num_new


def _chunks_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while chunk := list(itertools.islice(left, CHUNK_ITEMS)):
        yield chunk


def _zarr_path(item: Item) -> str:
    return str(item["properties"]["dmnet:zarr_path"])


def _put(stac_url: str, item: Item) -> None:
    objects.put_bytes(
        item_url(stac_url, _zarr_path(item)), json.dumps(item, allow_nan=False).encode()
    )


def _write_part(items: list[Item], path: str) -> None:
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    to_parquet(parse_stac_items_to_arrow(items), path)


def _joined(
    stored: str | None, dropped: list[str], folder: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the rows of a table that stay, then those of the parts in a folder, in one schema."""
    parts = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    files = ([stored] if stored else []) + parts
    schema = pa.unify_schemas(map(pa.parquet.read_schema, files), promote_options="permissive")
    # One batch is read ahead, since each of them is decoded as a whole.
    options = {"batch_size": CHUNK_ITEMS, "batch_readahead": 1, "fragment_readahead": 1}
    read: list[Iterator[pa.RecordBatch]] = []
    if stored:
        stays = ~pa.dataset.field("id").isin(pa.array(dropped, pa.string()))
        read.append(pa.dataset.dataset(stored, schema=schema).to_batches(filter=stays, **options))
    if parts:
        read.append(pa.dataset.dataset(parts, schema=schema).to_batches(**options))
    return schema, _regrouped(itertools.chain.from_iterable(read))


def _regrouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches of CHUNK_ITEMS at least, but the last: each becomes a row group."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= CHUNK_ITEMS:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)
