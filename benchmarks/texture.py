"""Does a fused store invent texture, and are its targets as bright as in the infrared?

    python benchmarks/texture.py --index pairs.parquet --fused fused

Two numbers, means over the pairs:
    flat    mean absolute Laplacian of the fused image over the larger of the sources', in the quarter
            of pixels where both sources are flattest (7 x 7 means of it); 1 is as much as there was
    hot     mean level of the fused image over the infrared's, in the hundredth of pixels that are
            brightest in the infrared, where they are brighter there than in the visible

--range takes the sources as a run with this --ir-range and --vis-range gave them; without it as `auto`
does, 8-bit files as they are.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.pair_index import load_index
from cluster.storage import fused_store, urls
from cluster.training.crops import read_pair
from dmnet_core.inference import fused_luminance
from dmnet_core.prepare import Reading

LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]


def laplacian(image: np.ndarray) -> torch.Tensor:
    """Return the absolute Laplacian of an (H, W) image, (1, 1, H - 2, W - 2)."""
    return F.conv2d(torch.from_numpy(image)[None, None], LAPLACIAN).abs()


def measure(ir: np.ndarray, vis: np.ndarray, fused: np.ndarray) -> tuple[float, float]:
    """Return flat and hot of one pair, images (H, W) in [0, 1]; hot is NaN where nothing is hot."""
    of_ir, of_vis, of_fused = laplacian(ir), laplacian(vis), laplacian(fused)
    around = torch.maximum(*(F.avg_pool2d(image, 7, 1, 3) for image in (of_ir, of_vis)))
    flat = around <= around.quantile(0.25)
    sources = max(float(of_ir[flat].mean()), float(of_vis[flat].mean()))
    hot = (ir >= np.quantile(ir, 0.99)) & (ir > vis)
    brightness = float(fused[hot].mean() / ir[hot].mean()) if hot.any() else float("nan")
    return float(of_fused[flat].mean()) / max(sources, 1e-9), brightness


def main() -> None:
    """Print both numbers: mean, and the pair that is worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True)
    parser.add_argument("--fused", required=True, help="an output of fuse_archive.py")
    parser.add_argument("--range", default="auto", help="of the sources, as for fuse_archive.py (auto)")
    given = parser.parse_args()
    reading = Reading(given.range, given.range)
    rows = {}
    for _, row in load_index(given.index)[0].iterrows():
        pair = read_pair(row, reading)
        place = fused_store.escape_pair_id(row["pair_id"])
        fused = fused_store.read_fused(urls.join_url(given.fused, "fused.zarr"), place)
        rows[row["pair_id"]] = measure(pair.ir, pair.vis, fused_luminance(fused))
    flat, hot = np.array(list(rows.values())).T
    names = list(rows)
    print(f"{len(rows)} pairs")
    print(f"flat {flat.mean():.2f}, most {flat.max():.2f} ({names[flat.argmax()]!r})")
    print(f"hot {np.nanmean(hot):.2f}, least {np.nanmin(hot):.2f} ({names[np.nanargmin(hot)]!r})")


if __name__ == "__main__":
    main()
