"""The three images of a fused pair as 8-bit pixels for people, read again from the sources and the store.

Last in the flow: `preview.png` and the report are made of them. Each side is shown with the range of
source values that was mapped to 0 and 1 when the pair was fused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.archive.pair import open_pair
from cluster.archive.sources.open import open_source
from cluster.storage import urls
from dmnet_core.ranges import from_unit, to_unit

Picture = NDArray[np.generic]
"""(H, W) or (H, W, 3) uint8."""


def read_sources(
    row: Mapping[str, Any], *, max_side: int, max_pixels: int, **options: Any
) -> tuple[Picture, Picture]:
    """Return the infrared and the visible image of a pair, of one height and width.

    Args:
        row: the columns of the pair index by which `open_pair` reads a pair, and ir_low, ir_high, vis_low
            and vis_high, the source values that are shown black and white.
        max_side: longest side, in pixels; a larger pair is reduced by a whole number.
        max_pixels: as of `open_pair`.
        options: further ones of `open_pair`.

    Raises:
        BadPair: a side can't be read.
    """
    with open_pair(row, max_pixels=max_pixels, **options) as pair:
        ir, vis = pair.overview(max_side)
    limits = [(row[f"{side}_low"], row[f"{side}_high"]) for side in ("ir", "vis")]
    shown_ir, shown_vis = (
        from_unit(to_unit(image.pixels, *ends), "uint8")
        for image, ends in zip((ir, vis), limits, strict=True)
    )
    return shown_ir, shown_vis


def read_fused(store_url: str, zarr_path: str, *, max_side: int, max_pixels: int) -> Picture:
    """Return the fused image of a pair, reduced as `read_sources` reduces the sources.

    Args:
        store_url: URL of the store of fused images.
        zarr_path: group of the pair below the store.
        max_side: longest side, in pixels.
        max_pixels: largest chunk that is read, in pixels.

    Raises:
        OSError, ValueError: the image is not there or can't be read.
    """
    with open_source(urls.join_url(store_url, zarr_path), max_pixels=max_pixels) as source:
        fused = source.overview(max_side).pixels
    if fused.dtype == np.uint8:
        return fused
    high = 1.0 if fused.dtype == np.float32 else float(np.iinfo(fused.dtype.name).max)
    return from_unit(to_unit(fused, 0.0, high), "uint8")
