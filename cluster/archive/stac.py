"""Items of a STAC document as the rows of a pair index: both images of a pair are assets of one item.

A document is an ItemCollection (a GeoJSON FeatureCollection of items), a single item, or a
stac-geoparquet file, which are told from each other by their first bytes. An item needs an id and both
assets; whatever else it may lack or have wrong is no matter. `cluster.archive.stac_item` writes items.
"""

from __future__ import annotations

import json
import os
import posixpath
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urljoin

from cluster.archive.name_reader import as_text
from cluster.archive.stac_item import as_moment
from cluster.storage import urls
from cluster.storage.ranges import RangeFile
from cluster.storage.s3 import filesystem
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line

MAX_DOCUMENT_BYTES = 1 << 30
"""Largest document that is read; JSON takes several times its size in memory."""
CARRIED = {"datetime": "str", "collection": "str", "platform": "str", "eo:cloud_cover": "float64"}
"""Columns that an index of items has where any item has a value, with their types."""
COLUMNS = ("id", "assets", *CARRIED)
"""Columns of a stac-geoparquet file that are read."""
NUM_NAMES = 10
"""Most names of assets that a message lists."""

Row = dict[str, Any]


def pairs_of_items(
    url: str, ir_asset: str, vis_asset: str
) -> tuple[list[Row], list[Row], dict[str, str]]:
    """Return the pairs of a STAC document.

    The pair_id is the item's id, below its collection (`collection/id`) where the document's items are
    of several collections. Relative hrefs are below the document's own folder.

    Args:
        url: absolute URL of the document.
        ir_asset: key of the asset that is the infrared image.
        vis_asset: key of the asset that is the visible image; it may be the same one.

    Returns:
        Rows of the pair index, with the columns of SCHEMA and those of the third value; rows with the
        columns of UNMATCHED_SCHEMA; the columns of CARRIED that have a value in any pair, with their
        types. Rows are in the order of their pair_ids.

    Raises:
        ValueError: the document is not there, too large or no such document, or has no pair.
    """
    sides = {"ir": ir_asset, "vis": vis_asset}
    items = [_Item(number, fields, sides.values()) for number, fields in enumerate(_read_items(url), 1)]
    if not items:
        raise ValueError(
            f"--stac {urls.redact_url(url)!r} has no item, expected one a pair: check the search or the "
            "file that it was made of"
        )
    several = len({item.collection for item in items if item.collection}) > 1
    by_id: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        by_id[item.pair_id(several)].append(item)
    hrefs = _Hrefs(url)
    pairs: list[Row] = []
    unmatched: list[Row] = []
    for pair_id, found in sorted(by_id.items()):
        row = _index_row(pair_id, found[0], sides, hrefs)
        if len(found) > 1:
            detail = f"{len(found)} items have this id: remove all but one, or give each its own"
            row = _no_pair(pair_id, "ambiguous", detail, row["ir_url"], row["vis_url"])
        (unmatched if "reason" in row else pairs).append(row)
    if not pairs:
        raise ValueError(_no_pairs_message(url, ir_asset, vis_asset, items, unmatched))
    carried = {
        name: kind for name, kind in CARRIED.items() if any(row[name] is not None for row in pairs)
    }
    return pairs, unmatched, carried


class _Item:
    """What is kept of one item; anything in it may be missing or of another type than STAC says."""

    def __init__(self, number: int, fields: Any, wanted: Iterable[str]) -> None:
        """Take an item as it was parsed.

        Args:
            number: number of the item in its document, from 1.
            fields: the item.
            wanted: keys of the assets to keep; of the others only the keys are.
        """
        self.number = number
        fields = fields if isinstance(fields, dict) else {}
        self.id = _text(fields.get("id"))
        self.collection = _text(fields.get("collection"))
        self.carried = _carried(fields.get("properties"), self.collection)
        assets = fields.get("assets")
        there: Row = {
            key: asset
            for key, asset in (assets.items() if isinstance(assets, dict) else ())
            if isinstance(asset, dict)  # a table has null where an item lacks an asset of others
        }
        self.keys = tuple(map(sys.intern, there))
        self.assets = {key: there[key] for key in wanted if key in there}

    def pair_id(self, several: bool) -> str:
        """Return the name of the item's pair; `several` says whether there are several collections."""
        if not self.id:
            return f"item {self.number}"
        return f"{self.collection}/{self.id}" if several and self.collection else self.id


def _carried(properties: Any, collection: str) -> Row:
    """Return the values of the columns CARRIED, None where the item has none."""
    properties = properties if isinstance(properties, dict) else {}
    cover = properties.get("eo:cloud_cover")
    is_number = isinstance(cover, (int, float)) and not isinstance(cover, bool)
    return {
        "datetime": _moment(properties.get("datetime")),
        "collection": collection or None,
        "platform": _text(properties.get("platform")) or None,
        "eo:cloud_cover": float(cover) if is_number else None,
    }


class _Hrefs:
    """Makes URLs of the hrefs of a document's assets."""

    def __init__(self, document_url: str) -> None:
        self.document_url = document_url
        self.folder = document_url.rpartition("/")[0]
        self.problems: dict[str, str] = {}
        """Why URLs of a scheme can't be read here, empty where they can, by the scheme."""

    def url_of(self, asset: Row) -> tuple[str, str]:
        """Return the URL of an asset, and why it can't be read; either is empty."""
        href = _text(asset.get("href"))
        if not href:
            return "", "has no href"
        url = self._absolute(href)
        if urls.is_remote(url):
            scheme = url.partition("://")[0]
            if scheme not in self.problems:
                try:
                    filesystem(scheme)
                    self.problems[scheme] = ""
                except ValueError as error:
                    self.problems[scheme] = one_line(error)
            if problem := self.problems[scheme]:
                return "", f"is at {urls.redact_url(url)!r}, and {problem}"
        return url, ""

    def _absolute(self, href: str) -> str:
        if "://" in href:
            return href if urls.is_remote(href) else urls.local_path(href)
        if urls.is_web(self.document_url):
            return urljoin(self.document_url, href)
        if href.startswith("/"):
            return href
        scheme, mark, path = self.folder.rpartition("://")
        return f"{scheme}{mark}{posixpath.normpath(f'{path}/{href}')}"


def _index_row(pair_id: str, item: _Item, sides: dict[str, str], hrefs: _Hrefs) -> Row:
    """Return an item's row of the index, or of the unmatched names, which has a `reason`."""
    if not item.id:
        return _no_pair(pair_id, "bad_name", "it has no id that is text, expected a STAC item: name it")
    missing = [key for key in dict.fromkeys(sides.values()) if key not in item.assets]
    found, problems = {"ir": "", "vis": ""}, []
    row: Row = {"pair_id": pair_id}
    for side, key in sides.items():
        if key not in item.assets:
            continue
        asset = item.assets[key]
        found[side], problem = hrefs.url_of(asset)
        if problem:
            problems.append(f"{side}: the asset {key!r} {problem}")
        size = asset.get("file:size")
        known = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63
        row |= {f"{side}_url": found[side], f"{side}_size": size if known else -1, f"{side}_etag": ""}
    if missing:
        problems.append(f"no asset {', '.join(map(repr, missing))}; {_named(item.keys)}")
    if problems:
        return _no_pair(pair_id, "missing_partner", "; ".join(problems), found["ir"], found["vis"])
    return row | item.carried


def _no_pair(pair_id: str, reason: str, detail: str, ir_url: str = "", vis_url: str = "") -> Row:
    row = {"pair_id": pair_id, "reason": reason, "detail": detail, "ir_url": ir_url, "vis_url": vis_url}
    return {name: as_text(value) for name, value in row.items()}


def _named(names: Sequence[str]) -> str:
    if not names:
        return "the item has no assets"
    more = f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else ""
    return f"the item has {', '.join(map(repr, names[:NUM_NAMES]))}{more}"


def _no_pairs_message(
    url: str, ir_asset: str, vis_asset: str, items: list[_Item], unmatched: list[Row]
) -> str:
    counts = Counter(key for item in items for key in item.keys)
    assets = ", ".join(f"{key!r} ({count} items)" for key, count in counts.most_common(NUM_NAMES))
    first = unmatched[0]
    return (
        f"no item of --stac {urls.redact_url(url)!r} is a pair with --ir-asset {ir_asset!r} and "
        f"--vis-asset {vis_asset!r}: {first['pair_id']!r}, for example, is {first['reason']} "
        f"({first['detail']}). Expected items with both assets; there are {assets or 'none'}: name two "
        "of these, or one twice"
    )


def _read_items(url: str) -> Iterator[Any]:
    """Yield the items of a document as they were parsed."""
    name = f"--stac {urls.redact_url(url)!r}"
    try:
        with RangeFile(url) as file:
            if file.size > MAX_DOCUMENT_BYTES:
                raise ValueError(
                    f"{name} has {file.size:,} bytes, expected at most {MAX_DOCUMENT_BYTES:,}: write it "
                    "as stac-geoparquet, which is far smaller, or in several parts, each with an index "
                    "of its own"
                )
            data = file.read()
    except FileNotFoundError as error:
        raise ValueError(
            f"{name} is not there, expected an ItemCollection or a stac-geoparquet file: check the URL"
        ) from error
    if data[:4] == b"PAR1":
        yield from _table_items(data, name)
    else:
        yield from _json_items(data, name)


def _json_items(data: bytes, name: str) -> list[Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} is neither JSON nor Parquet ({one_line(error)[:200]}), expected an ItemCollection "
            "or a stac-geoparquet file"
        ) from error
    kind = document.get("type") if isinstance(document, dict) else type(document).__name__
    if kind == "Feature":
        return [document]
    features = document.get("features") if kind == "FeatureCollection" else None
    if not isinstance(features, list):
        raise ValueError(
            f"{name} is JSON of the type {kind!r}, expected an ItemCollection, which is a "
            "'FeatureCollection' with a list of 'features': of a catalog or a collection make one with "
            "pystac, ItemCollection(catalog.get_items(recursive=True)).save_object(file)"
        )
    links = document.get("links")
    relations = [link.get("rel") for link in links or () if isinstance(link, dict)]
    if "next" in relations:
        raise ValueError(
            f"{name} is one page of a search: its {len(features)} items end with a link to the next "
            "page. Expected all items in one file: save them with pystac_client, "
            "search.item_collection().save_object(file), or remove that link where one page is meant"
        )
    return features


def _table_items(data: bytes, name: str) -> Iterator[Row]:
    """Yield the items of a stac-geoparquet file, of each the columns that are read."""
    with tempfile.TemporaryDirectory(prefix="dmnet-stac-") as folder, Database() as database:
        path = os.path.join(folder, "items.parquet")
        with open(path, "wb") as file:
            file.write(data)
        try:
            found = database.open_columns("items", path, COLUMNS)
            if not {"id", "assets"} <= found.keys() or not found["assets"].startswith("STRUCT"):
                raise ValueError("it lacks the column 'id', or the column 'assets' of structs")
            for rows in database.batches("from items"):
                for row in rows:
                    yield {**row, "properties": row}
        except ValueError as error:
            raise ValueError(
                f"{name} can't be read as stac-geoparquet ({one_line(error)[:300]}), expected a file as "
                "stac_geoparquet or rustac write it: make it again, or give an ItemCollection"
            ) from error


def _text(value: Any) -> str:
    """Return a value that is a text which UTF-8 holds; an empty text for any other."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value


def _moment(value: Any) -> str | None:
    """Return a time, as text or as a table holds it, in one spelling: UTC, with a Z at its end.

    A text that is no time stays as it is.
    """
    moment = as_moment(value)
    if moment is None:
        return _text(value) or None
    return moment.replace(tzinfo=None).isoformat() + "Z"
