"""How far do the shipped weights lift what is black in both sources?

    python benchmarks/black_level.py --data ../shared/data

For each pair, in grey levels: the mean of the fused image minus that of the larger source, max(ir, vis),
over the pixels that count as black, and the share of the pixels that do:
    medical_ct     both sources at 2 grey levels or below: the background of a scan
    msrs_sample    the twentieth of a night's pixels in which the larger source is darkest
    all black      a pair of 480 x 640 pixels that are all 0
Printed are the mean over the pairs and the pair that is lifted most.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.pair import read_images
from cluster.archive.pair_index import load_index
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse, fused_luminance, prepare_pair

Image = NDArray[np.generic]
BLACK_LEVEL = 2.0
"""Highest grey level of a scan's background."""
DARKEST = 0.05
"""Share of a night's pixels that count as black."""
NIGHT = "N"
"""How the names of MSRS' pairs end that were taken at night."""
MAX_PIXELS = 2**24


def pairs_of(folder: Path, limit: int, ending: str = "") -> Iterator[tuple[str, Image, Image]]:
    """Yield name, ir and vis of at most `limit` pairs, whose names end so, spread over a set."""
    pairs = load_index(None, str(folder / "ir"), str(folder / "vis"))[0]
    pairs = pairs[pairs["pair_id"].str.endswith(ending)]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int))
    for _, row in pairs.iloc[chosen].iterrows():
        images = read_images(row, max_pixels=MAX_PIXELS)
        yield row["pair_id"], images.ir, images.vis


def lifted(ir: Image, vis: Image, fused: Image, *, darkest: float | None) -> tuple[float, float]:
    """Return by how many grey levels black is lifted, and the share of the pixels that are black.

    Args:
        ir: (H, W) or (H, W, 3) source.
        vis: the same.
        fused: the same, 8 bits.
        darkest: share of the pixels that count as black; None takes all of at most BLACK_LEVEL.
    """
    pair = prepare_pair(ir, vis)
    larger = np.maximum(pair.ir, pair.vis) * 255.0
    black = larger <= (BLACK_LEVEL if darkest is None else np.quantile(larger, darkest))
    if not black.any():
        return float("nan"), 0.0
    by = fused_luminance(fused) * 255.0 - larger
    return float(by[black].mean()), float(black.mean())


def main() -> None:
    """Print one row a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--limit", type=int, default=24, help="most pairs of a set (24)")
    given = parser.parse_args()
    model = load_checkpoint().model
    black = np.zeros((480, 640), dtype=np.uint8)
    sets = {
        "medical_ct": (pairs_of(given.data / "medical_ct", given.limit), None),
        "msrs_sample": (pairs_of(given.data / "msrs_sample", given.limit, NIGHT), DARKEST),
        "all black": (iter([("black", black, black)]), None),
    }
    print("| set | pairs | black, share of the pixels | lifted by, grey levels | most |")
    print("|---|---|---|---|---|")
    for name, (pairs, darkest) in sets.items():
        found = {
            pair_id: lifted(ir, vis, fuse(model, ir, vis, pair_id=pair_id), darkest=darkest)
            for pair_id, ir, vis in pairs
        }
        measured = {pair_id: row for pair_id, row in found.items() if np.isfinite(row[0])}
        by, share = np.array(list(measured.values())).T
        most = list(measured)[int(by.argmax())]
        print(
            f"| {name} | {len(measured)} of {len(found)} | {share.mean():.2f} | {by.mean():.1f} "
            f"| {by.max():.1f} ({most}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
