"""The pair index: which infrared and which visible file make a pair.

First in the flow: two listings become rows of pair_id, URLs, sizes and etags, in a file
(`build_index`) or in memory (`open_index`). A name that makes no pair is listed with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cluster.archive.keys import URLS, pair_keys, partition_of, source_keys
from cluster.fusing.config import IndexConfig
from cluster.storage import objects as storage
from cluster.storage.objects import FileInfo, PackedTable
from cluster.text.plain_text import one_line

SIDES = ("ir", "vis")
IMAGE_EXTENSIONS = frozenset(
    "png jpg jpeg jpe jfif tif tiff bmp webp gif jp2 j2k heic heif avif pgm ppm pnm".split()
)
"""A file with another extension is no image of the archive; one without any may be."""
SCHEMA = {
    "pair_id": "str",
    "ir_url": "str",
    "vis_url": "str",
    "ir_size": "int64",
    "ir_etag": "str",
    "vis_size": "int64",
    "vis_etag": "str",
}
UNMATCHED_SCHEMA = dict.fromkeys(("pair_id", "reason", "detail", "ir_url", "vis_url"), "str")
NO_PAIR = ("missing_partner", "ambiguous", "bad_name")
"""Reasons of the unmatched table that count as rejected pairs; not_image does not."""

Row = dict[str, Any]


@dataclass(frozen=True)
class IndexReport:
    """What `build_index` found."""

    num_pairs: int
    """Rows of the index."""
    num_unmatched: dict[str, int]
    """Names that make no pair, by reason."""
    index_url: str
    """Where the index is."""
    unmatched_url: str
    """Where the table of unmatched names is."""


def build_index(config: IndexConfig) -> IndexReport:
    """List both prefixes, match the names, write the index and the table of unmatched names.

    Raises:
        ValueError: a prefix is not there or unreachable, or no name has a partner.
    """
    pairs, unmatched = _match_prefixes(
        config.ir_url, config.vis_url, config.ir_pattern, config.vis_pattern
    )
    unmatched_url = unmatched_table_url(config.output_url)
    storage.write_table(unmatched_url, storage.typed_frame(unmatched, UNMATCHED_SCHEMA))
    storage.write_table(config.output_url, storage.typed_frame(pairs, SCHEMA))
    counts: dict[str, int] = {}
    for row in unmatched:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return IndexReport(len(pairs), counts, config.output_url, unmatched_url)


class PairIndex:
    """The pairs of a run, packed, and what the plan needs of each: 40 bytes.

    A row has every column of SCHEMA, -1 and "" where a user's own index does not say, and any other
    column of the index.
    """

    def __init__(self, frames: Iterable[pd.DataFrame]) -> None:
        """Take frames of such rows, of equal columns and types; the first may have no rows."""
        keys: list[pd.DataFrame] = []
        self.packed = PackedTable(_noting_keys(frames, keys))
        self.keys = pd.concat(keys, ignore_index=True)
        """Of each row: `pair` and `source`, see `keys`, `ir_size`, `vis_size`, `position`."""
        self.keys["position"] = np.arange(len(self.keys))
        self.empty = next(self.packed.slices())
        """The columns, without a row."""

    def __len__(self) -> int:
        return len(self.keys)

    def slices(self, positions: Any = slice(None)) -> Iterator[pd.DataFrame]:
        """Return the rows, or those at some positions, in order, as frames of at most SLICE_ROWS."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[positions] = True
        start = 0
        for frame in self.packed.slices():
            stop = start + len(frame)
            part = frame[chosen[start:stop]]
            if len(part):
                yield part.reset_index(drop=True)
            start = stop

    def at(self, positions: NDArray[np.int64]) -> pd.DataFrame:
        """Return the rows at a few positions, in order."""
        return pd.concat([self.empty, *self.slices(positions)], ignore_index=True)


def load_index(
    index_url: str | None, ir_url: str | None = None, vis_url: str | None = None
) -> tuple[pd.DataFrame, list[Row]]:
    """Return what `open_index` does, all rows of it in one frame of pandas' own types."""
    index, unmatched = open_index(index_url, ir_url, vis_url)
    return storage.plain([index.empty, *index.slices()]), unmatched


def open_index(
    index_url: str | None,
    ir_url: str | None = None,
    vis_url: str | None = None,
    partition: tuple[int, int] | None = None,
) -> tuple[PairIndex, list[Row]]:
    """Return the pairs of a run, and the rows of names that make no pair.

    Relative URLs in an index are below the index's own folder.

    Args:
        index_url: of the index; None where it is made of two prefixes here.
        ir_url: prefix of the infrared images, where there is no index.
        vis_url: prefix of the visible images, where there is no index.
        partition: (k, n): only the names that are in the k-th, from 1, of n parts.

    Raises:
        ValueError: the index or a prefix can't be used, or the part of it has a name twice.
    """
    if index_url is None:
        assert ir_url is not None and vis_url is not None
        pairs, unmatched = _match_prefixes(ir_url, vis_url, "{id}", "{id}")
        frames = iter([storage.typed_frame(pairs, SCHEMA)])
    else:
        stored = storage.read_slices(index_url)
        if stored is None:
            raise ValueError(
                f"--index {storage.redact_url(index_url)!r} is not there, expected a Parquet "
                "or CSV file: make one with jobs/index_archive.py"
            )
        frames = _checked(stored, index_url)
        beside = storage.read_table(unmatched_table_url(index_url))
        unmatched = [] if beside is None else beside.to_dict("records")
    if partition:
        frames = (frame[partition_of(frame["pair_id"], partition)] for frame in frames)
        names = pd.Series([row["pair_id"] for row in unmatched], dtype="str")
        unmatched = [unmatched[i] for i in partition_of(names, partition).to_numpy().nonzero()[0]]
    index = PairIndex(frames)
    _check_unique(index, index_url)
    return index, [row for row in unmatched if row["reason"] in NO_PAIR]


def unmatched_table_url(index_url: str) -> str:
    """Return where the unmatched names of an index are: pairs.parquet, pairs.unmatched.parquet."""
    return f"{index_url.rpartition('.')[0]}.unmatched.parquet"


def match_pairs(
    ir_files: Iterable[FileInfo],
    vis_files: Iterable[FileInfo],
    ir_pattern: str = "{id}",
    vis_pattern: str = "{id}",
) -> tuple[list[Row], list[Row]]:
    """Match two listings by pair_id: the relative path without extension, taken out of the pattern.

    Returns:
        Rows with the columns of SCHEMA and rows with those of UNMATCHED_SCHEMA, by pair_id.
    """
    unmatched: list[Row] = []
    found: dict[str, dict[str, list[FileInfo]]] = {}
    for side, files, pattern in (("ir", ir_files, ir_pattern), ("vis", vis_files, vis_pattern)):
        before, _, after = pattern.partition("{id}")
        spelled = re.compile(re.escape(before) + "(.+)" + re.escape(after), re.DOTALL)
        for file in files:
            stem, dot, extension = split_extension(file.path)
            if dot and extension.lower() not in IMAGE_EXTENSIONS:
                detail = f"{side}: the extension is none of an image"
                unmatched.append(_unmatched(stem, "not_image", detail, {side: file.url}))
            elif not _is_text(file.url):
                detail = f"{side}: the file's name is not UTF-8: rename it"
                unmatched.append(_unmatched(stem, "bad_name", detail, {side: file.url}))
            elif (match := spelled.fullmatch(stem)) is None:
                detail = f"{side}: the name does not fit the pattern {pattern!r}"
                unmatched.append(_unmatched(stem, "missing_partner", detail, {side: file.url}))
            else:
                found.setdefault(match[1], {"ir": [], "vis": []})[side].append(file)
    pairs: list[Row] = []
    for pair_id in sorted(found):
        sides = found[pair_id]
        urls = {side: sides[side][0].url for side in SIDES if sides[side]}
        several = [side for side in SIDES if len(sides[side]) > 1]
        if several:
            detail = "; ".join(
                f"{side}: {', '.join(repr(file.path) for file in sides[side])}" for side in several
            )
            unmatched.append(_unmatched(pair_id, "ambiguous", detail, urls))
        elif len(urls) == 1:
            missing = "vis" if "ir" in urls else "ir"
            detail = f"{missing}: no file of this name below the prefix"
            unmatched.append(_unmatched(pair_id, "missing_partner", detail, urls))
        else:
            ir, vis = sides["ir"][0], sides["vis"][0]
            pairs.append(
                {
                    "pair_id": pair_id,
                    "ir_url": ir.url,
                    "vis_url": vis.url,
                    "ir_size": ir.size,
                    "ir_etag": ir.etag,
                    "vis_size": vis.size,
                    "vis_etag": vis.etag,
                }
            )
    return pairs, sorted(unmatched, key=lambda row: (row["pair_id"], row["detail"]))


def _match_prefixes(
    ir_url: str, vis_url: str, ir_pattern: str, vis_pattern: str
) -> tuple[list[Row], list[Row]]:
    ir_url, vis_url = storage.absolute_url(ir_url), storage.absolute_url(vis_url)
    pairs, unmatched = match_pairs(
        storage.list_files(ir_url), storage.list_files(vis_url), ir_pattern, vis_pattern
    )
    if not pairs:
        example = f", for example {unmatched[0]['pair_id']!r}" if unmatched else ""
        raise ValueError(
            f"no infrared file below {storage.redact_url(ir_url)!r} has a visible one of its name "
            f"below {storage.redact_url(vis_url)!r} ({len(unmatched)} names without a "
            f"partner{example}), expected equal relative paths without extension: make an index "
            "with jobs/index_archive.py --ir-pattern and --vis-pattern where the names differ"
        )
    return pairs, unmatched


def _checked(frames: Iterator[pd.DataFrame], index_url: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a stored index with the columns of SCHEMA in their types.

    Raises:
        ValueError: a column is not there, or a row has no name or URL; once all rows were seen.
    """
    name = f"index {storage.redact_url(index_url)!r}"
    folder = storage.absolute_url(index_url).rpartition("/")[0]
    needed = ["pair_id", *URLS]
    num_rows, num_empty = 0, Counter[str]()
    for frame in frames:
        if missing := [column for column in needed if column not in frame]:
            raise ValueError(
                f"{name} has no column {', '.join(missing)} (it has {', '.join(map(repr, frame))}), "
                "expected pair_id, ir_url and vis_url"
            )
        columns: dict[str, pd.Series] = {}
        for column in needed:
            columns[column] = frame[column].astype("str").fillna("")
            num_empty[column] += int((columns[column] == "").sum())
        num_rows += len(frame)
        for side in SIDES:
            urls = [_below(folder, url) for url in columns[f"{side}_url"].to_numpy()]
            columns[f"{side}_url"] = pd.Series(urls, dtype="str")
            unknown = pd.Series([None] * len(frame), dtype="object")
            size, etag = (frame.get(f"{side}_{what}", unknown) for what in ("size", "etag"))
            try:
                sizes = pd.to_numeric(storage.plain([size.to_frame("size")])["size"])
                columns[f"{side}_size"] = sizes.astype("float64").fillna(-1).astype("int64")
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{name} has a {side}_size that is no number of bytes ({one_line(error)}), expected "
                    "whole numbers, or none"
                ) from error
            columns[f"{side}_etag"] = etag.astype("str").fillna("")
        yield frame.assign(**columns)[[*SCHEMA, *(name for name in frame if name not in SCHEMA)]]
    for column in needed:
        if num_empty[column]:
            raise ValueError(f"{name} has {num_empty[column]} rows without {column}, expected none")
    if not num_rows:
        raise ValueError(f"{name} has no rows, expected one a pair")


def _noting_keys(frames: Iterable[pd.DataFrame], keys: list[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Pass frames of pairs on, adding what identifies them to `keys`."""
    for frame in frames:
        numbers = {"pair": pair_keys(frame), "source": source_keys(frame)}
        sizes = {name: frame[name].to_numpy() for name in ("ir_size", "vis_size")}
        keys.append(pd.DataFrame(numbers | sizes))
        yield frame


def _check_unique(index: PairIndex, index_url: str | None) -> None:
    if index.keys["pair"].is_unique or index_url is None:
        return
    alike = index.keys["pair"].duplicated(keep=False).to_numpy().nonzero()[0]
    names = index.at(alike)["pair_id"]
    if len(twice := names[names.duplicated()]):
        raise ValueError(
            f"index {storage.redact_url(index_url)!r} has {len(twice)} rows whose pair_id an earlier row "
            f"has, for example {twice.iloc[0]!r}, expected each once"
        )


def _below(folder: str, url: str) -> str:
    """Return a URL of an index, a relative one as below the index's folder."""
    whole = storage.is_remote(url) or url.startswith(("/", "file://"))
    return url if whole else storage.join_url(folder, url)


def split_extension(path: str) -> tuple[str, bool, str]:
    """Split a path at the last dot of the file's name, unless it begins with it.

    Returns:
        What is before the dot, whether there is one, and what is behind it.
    """
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        return path, False, ""
    return f"{folder}{slash}{stem}", True, extension


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unmatched(pair_id: str, reason: str, detail: str, urls: dict[str, str]) -> Row:
    row = {"pair_id": pair_id, "reason": reason, "detail": detail}
    row |= {f"{side}_url": urls.get(side, "") for side in SIDES}
    return {name: value.encode("utf-8", "backslashreplace").decode() for name, value in row.items()}
