"""OUT/preview.png: the picture of a few pairs of an archive, made at the end of a run."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

from cluster.archive.contact_sheet import draw_sheet, draw_strip
from cluster.archive.pair_index import READ
from cluster.archive.pair_picture import read_fused, read_sources
from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import HAS_LEDGER_ROW
from cluster.fusing.output import Output
from cluster.fusing.steps.rows import RANGES
from cluster.storage import objects
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line

NUM_PAIRS = 4
MAX_SIDE = 1024
"""Longest side, in pixels, in which an image is read for the picture."""


def write_preview(database: Database, output: Output, config: FuseConfig) -> None:
    """Write the picture of a few pairs of the index that lie far from each other, where any is fused."""
    (num_fused,) = database.first("select count(*) from current where status = 'fused'")
    numbers = np.unique(np.linspace(0, num_fused - 1, min(NUM_PAIRS, num_fused)).astype(int))
    columns = [f"p.{name}" for name in READ] + [f"l.{name}" for name in ("zarr_path", *RANGES)]
    pairs = database.frame(
        "with fused as (select *, row_number() over (order by __row) - 1 as at from current "
        "where status = 'fused') "
        f"select {', '.join(columns)} from fused f join pairs p using (__row) "
        f"join ledger l on {HAS_LEDGER_ROW.format('f')} "
        "where list_contains($numbers, f.at) order by __row",
        numbers=numbers.tolist(),
    )
    picture = make_preview(
        pairs,
        output.store,
        **config.opening().options,
    )
    if picture is not None:
        objects.put_bytes(output.preview, picture)


def make_preview(
    pairs: pd.DataFrame, store_url: str, *, max_pixels: int, **options: Any
) -> bytes | None:
    """Return a PNG of IR | VIS | fused of pairs, None where there is none.

    Args:
        pairs: zarr_path, the columns READ of the pair index, and the columns RANGES of the ledger.
        store_url: URL of the store of fused arrays.
        max_pixels: as in `open_pair`.
        options: further ones of `open_pair`.
    """
    strips = []
    for _, row in pairs.iterrows():
        try:
            shown = [
                *read_sources(row, max_side=MAX_SIDE, max_pixels=max_pixels, **options),
                read_fused(store_url, row["zarr_path"], max_side=MAX_SIDE, max_pixels=max_pixels),
            ]
        except (OSError, ValueError) as error:
            print(f"  preview leaves out {row['pair_id']!r}: {one_line(error)}", file=sys.stderr)
            continue  # a file went away or changed after it was fused: the picture does without it
        strips.append(draw_strip(shown, str(row["pair_id"])))
    return draw_sheet(strips) if strips else None
