"""Picture of where the windows of a fused scene meet, magnified: looked at, not measured.

    python benchmarks/borders.py OUT --pair NAME --window 512 --picture borders.png

One row for each of some corners where four windows meet: infrared, visible and fused around it, and the
same fused pixels with the borders of the windows drawn.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cluster.archive.pair import open_pair
from cluster.archive.sources.open import open_source
from cluster.archive.sources.source import Window
from cluster.storage import urls
from dmnet_core.ranges import from_unit, to_unit

AROUND, MAGNIFIED, GAP = 48, 5, 6


def magnified(pixels: np.ndarray) -> Image.Image:
    """Return 8-bit pixels, each as a square."""
    image = Image.fromarray(pixels).convert("RGB")
    return image.resize((image.width * MAGNIFIED, image.height * MAGNIFIED), Image.Resampling.NEAREST)


def main() -> None:
    """Draw the corners."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", help="output of fuse_archive")
    parser.add_argument("--pair", required=True, help="pair_id of a scene")
    parser.add_argument("--window", type=int, default=1024, help="what --window was, in pixels")
    parser.add_argument("--corners", type=int, default=2, help="number of corners to draw")
    parser.add_argument("--picture", required=True, help="PNG or JPEG to write")
    given = parser.parse_args()
    metrics = pd.read_parquet(urls.join_url(given.output, "metrics.parquet"))
    row = metrics.set_index("pair_id").loc[given.pair]
    ledger = pd.read_parquet(urls.join_url(given.output, "ledger"))
    index = ledger[ledger["pair_id"] == given.pair].iloc[-1].to_dict() | row.to_dict()
    corners = [
        (y, x)
        for y in range(given.window, row["height"], given.window)
        for x in range(given.window, row["width"], given.window)
    ]
    corners = [corners[n] for n in np.linspace(0, len(corners) - 1, given.corners).astype(int)]
    side = 2 * AROUND * MAGNIFIED
    sheet = Image.new("RGB", (4 * side + 3 * GAP, len(corners) * (side + GAP) - GAP), "white")
    store = urls.join_url(given.output, "fused.zarr", row["zarr_path"])
    options = {"max_pixels": 2**26}
    with open_pair(index, **options) as pair, open_source(store, **options) as fused:
        for number, (y, x) in enumerate(corners):
            top, left = max(0, y - AROUND), max(0, x - AROUND)
            part = Window(
                top, left, min(2 * AROUND, row["height"] - top), min(2 * AROUND, row["width"] - left)
            )
            images = pair.read(part)
            ranges = [(row[f"{name}_low"], row[f"{name}_high"]) for name in ("ir", "vis")]
            shown = [
                magnified(from_unit(to_unit(image.pixels, *ends), "uint8"))
                for image, ends in zip((images.ir, images.vis), ranges, strict=True)
            ]
            pixels = magnified(fused.read(part).pixels)
            drawn = pixels.copy()
            lines = ImageDraw.Draw(drawn)
            at_x, at_y = (x - left) * MAGNIFIED, (y - top) * MAGNIFIED
            lines.line([(at_x, 0), (at_x, drawn.height)], "red")
            lines.line([(0, at_y), (drawn.width, at_y)], "red")
            for column, image in enumerate([*shown, pixels, drawn]):
                sheet.paste(image, (column * (side + GAP), number * (side + GAP)))
    sheet.save(given.picture, quality=88)


if __name__ == "__main__":
    main()
