"""OUT/preview.png: the picture of a few pairs of an archive, made at the end of a run."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cluster.archive.contact_sheet import draw_sheet, draw_strip
from cluster.archive.pair import read_images
from cluster.archive.pair_index import READ
from cluster.fusing.config import FuseConfig
from cluster.fusing.output import Output
from cluster.storage import fused_store, objects
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line
from dmnet_core.prepare import Reading
from dmnet_core.ranges import from_unit, to_unit

NUM_PAIRS = 4


def write_preview(database: Database, output: Output, config: FuseConfig) -> None:
    """Write the picture of a few pairs of the index that lie far from each other, where any is fused."""
    (num_fused,) = database.first("select count(*) from current where status = 'fused'")
    numbers = np.unique(np.linspace(0, num_fused - 1, min(NUM_PAIRS, num_fused)).astype(int))
    pairs = database.frame(
        "with fused as (select __row, row_number() over (order by __row) - 1 as at from current "
        "where status = 'fused') "
        f"select l.zarr_path, {', '.join(f'p.{name}' for name in READ)} from fused "
        "join pairs p using (__row) join latest l on l.pair_id = p.pair_id "
        "where list_contains($numbers, fused.at) order by __row",
        numbers=numbers.tolist(),
    )
    picture = make_preview(
        pairs,
        output.store,
        reading=config.reading,
        max_pixels=config.max_pixels,
        temperatures=config.temperatures,
        resample=config.resample,
    )
    if picture is not None:
        objects.put_bytes(output.preview, picture)


def make_preview(
    pairs: pd.DataFrame,
    store_url: str,
    *,
    reading: Reading,
    max_pixels: int,
    temperatures: bool = False,
    resample: bool = False,
) -> bytes | None:
    """Return a PNG of IR | VIS | fused of pairs, None where there is none.

    Args:
        pairs: zarr_path, and the columns READ of the pair index.
        store_url: URL of the store of fused arrays.
        reading: how the sources become grey levels.
        max_pixels: as in `read_images`.
        temperatures: as in `read_images`.
        resample: as in `read_images`.
    """
    strips = []
    for _, row in pairs.iterrows():
        try:
            images = read_images(
                row, max_pixels=max_pixels, temperatures=temperatures, resample=resample
            )
            fused = fused_store.read_fused(store_url, row["zarr_path"], max_pixels=max_pixels)
            pair = images.prepared(reading)
        except (OSError, ValueError) as error:
            print(f"  preview leaves out {row['pair_id']!r}: {one_line(error)}", file=sys.stderr)
            continue  # a file went away or changed after it was fused: the picture does without it
        sources = ((images.ir, pair.ir_range), (images.vis, pair.vis_range))
        shown = [from_unit(to_unit(image.pixels, *limits), "uint8") for image, limits in sources]
        shown.append(_to_8_bit(fused))
        strips.append(draw_strip(shown, str(row["pair_id"])))
    return draw_sheet(strips) if strips else None


def _to_8_bit(fused: NDArray[np.generic]) -> NDArray[np.generic]:
    if fused.dtype == np.uint8:
        return fused
    high = 1.0 if fused.dtype == np.float32 else float(np.iinfo(fused.dtype.name).max)
    return from_unit(to_unit(fused, 0.0, high), "uint8")
