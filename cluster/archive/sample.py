"""A small sample archive of generated pairs, for the demo and the tests.

`jobs/make_sample.py` calls this; `jobs/fuse_archive.py --ir OUT/ir --vis OUT/vis` reads the result.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.archive.config import SampleConfig
from cluster.storage import objects, urls
from cluster.storage.config_urls import with_absolute_urls
from dmnet_core.synthetic import KINDS, render_scene

SIZES = ((480, 640), (360, 480), (512, 512))
"""Height and width of the pairs, taken in turn."""


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What `write_sample_archive` did."""

    num_pairs: int
    """Pairs in the archive."""
    num_written: int
    """Files written; the others were there already with the same bytes."""
    ir_url: str
    """Prefix of the infrared images."""
    vis_url: str
    """Prefix of the visible images."""


def write_sample_archive(
    config: SampleConfig, sizes: Sequence[tuple[int, int]] = SIZES
) -> SampleReport:
    """Write ir/<kind>/NNN.png and vis/<kind>/NNN.png below the config's `output_url`.

    A file that already holds the same bytes is left alone, so that its etag stays and a second
    fusing run finds nothing changed.

    Args:
        config: where to write, how many pairs, and the seed; the kinds of scene take turns.
        sizes: (height, width) in pixels, taken in turn; at least one.

    Returns:
        What was written and the two prefixes to fuse.

    Raises:
        ValueError: a size is too small to render.
        cluster.storage.urls.StorageError: the store cannot be reached.
    """
    assert sizes
    config = with_absolute_urls(config)
    num_written = 0
    for number in range(config.num_pairs):
        turn, kind_number = divmod(number, len(KINDS))
        kind, (height, width) = KINDS[kind_number], sizes[turn % len(sizes)]
        ir, vis = render_scene(kind, config.seed * 100_000 + turn, height, width)
        for side, image in (("ir", ir), ("vis", vis)):
            url = urls.join_url(config.output_url, side, kind, f"{turn:03d}.png")
            num_written += _put_if_changed(url, _encode_png(image))
    return SampleReport(
        num_pairs=config.num_pairs,
        num_written=num_written,
        ir_url=urls.join_url(config.output_url, "ir"),
        vis_url=urls.join_url(config.output_url, "vis"),
    )


def _put_if_changed(url: str, data: bytes) -> bool:
    """Write `data` unless `url` holds it already; return whether it was written."""
    try:
        if objects.read_bytes(url) == data:
            return False
    except FileNotFoundError:
        pass
    objects.put_bytes(url, data)
    return True


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG of (H, W) grey or (H, W, 3) RGB pixels; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
