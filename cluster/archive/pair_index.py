"""The pair index: which infrared and which visible file make a pair.

First in the flow: two listings become rows of pair_id, URLs, sizes and etags, in a file
(`build_index`) or in memory (`open_index`). A name that makes no pair is listed with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cluster.archive.config import IndexConfig
from cluster.archive.keys import URLS, pair_keys, partition_of, source_keys
from cluster.archive.matching import SIDES, match_pairs
from cluster.storage import objects, tables, urls
from cluster.storage.tables import PackedTable
from cluster.text.plain_text import one_line

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
    tables.write_table(unmatched_url, tables.typed_frame(unmatched, UNMATCHED_SCHEMA))
    tables.write_table(config.output_url, tables.typed_frame(pairs, SCHEMA))
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
    return tables.plain([index.empty, *index.slices()]), unmatched


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
        frames = iter([tables.typed_frame(pairs, SCHEMA)])
    else:
        stored = tables.read_slices(index_url)
        if stored is None:
            raise ValueError(
                f"--index {urls.redact_url(index_url)!r} is not there, expected a Parquet "
                "or CSV file: make one with jobs/index_archive.py"
            )
        frames = _checked(stored, index_url)
        beside = tables.read_table(unmatched_table_url(index_url))
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


def _match_prefixes(
    ir_url: str, vis_url: str, ir_pattern: str, vis_pattern: str
) -> tuple[list[Row], list[Row]]:
    ir_url, vis_url = urls.absolute_url(ir_url), urls.absolute_url(vis_url)
    pairs, unmatched = match_pairs(
        objects.list_files(ir_url), objects.list_files(vis_url), ir_pattern, vis_pattern
    )
    if not pairs:
        example = f", for example {unmatched[0]['pair_id']!r}" if unmatched else ""
        raise ValueError(
            f"no infrared file below {urls.redact_url(ir_url)!r} has a visible one of its name "
            f"below {urls.redact_url(vis_url)!r} ({len(unmatched)} names without a "
            f"partner{example}), expected equal relative paths without extension: make an index "
            "with jobs/index_archive.py --ir-pattern and --vis-pattern where the names differ"
        )
    return pairs, unmatched


def _checked(frames: Iterator[pd.DataFrame], index_url: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a stored index with the columns of SCHEMA in their types.

    Raises:
        ValueError: a column is not there, or a row has no name or URL; once all rows were seen.
    """
    name = f"index {urls.redact_url(index_url)!r}"
    folder = urls.absolute_url(index_url).rpartition("/")[0]
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
            absolute = [_below(folder, url) for url in columns[f"{side}_url"].to_numpy()]
            columns[f"{side}_url"] = pd.Series(absolute, dtype="str")
            unknown = pd.Series([None] * len(frame), dtype="object")
            size, etag = (frame.get(f"{side}_{what}", unknown) for what in ("size", "etag"))
            try:
                sizes = pd.to_numeric(tables.plain([size.to_frame("size")])["size"])
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
            f"index {urls.redact_url(index_url)!r} has {len(twice)} rows whose pair_id an earlier row "
            f"has, for example {twice.iloc[0]!r}, expected each once"
        )


def _below(folder: str, url: str) -> str:
    """Return a URL of an index, a relative one as below the index's folder."""
    whole = urls.is_remote(url) or url.startswith(("/", "file://"))
    return url if whole else urls.join_url(folder, url)


