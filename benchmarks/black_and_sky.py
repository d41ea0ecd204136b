"""Do blacks stay black and clear skies clear, beside any other method's images?

    python benchmarks/black_and_sky.py --data ../shared/data --peers ../shared/data/peers

Printed, in grey levels, are means over the pairs of a set:
    darkest    msrs_sample: the fused image minus the larger source, where that is in its darkest fifth
    scans      medical_ct: the fused image where both sources are at 2 or below
    all black  the largest value that a pair of black images of 480 x 640 pixels fuses to
    rim        roadscene_test: the mean absolute difference to the larger source in the 8 pixels at the
               border, over that in the interior
    sky        roadscene_test: the mean absolute Laplacian of the fused image in clear sky, which is the
               upper half where the visible image is at 180 or above and the 9 x 9 mean of its absolute
               Laplacian at most 2; pairs where that is a twentieth of the pixels or more
    level      the fused image minus the visible one, in the same sky
`--peers` names a folder METHOD/SET/STEM.png of other methods' images; a dash stands where there are none.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.pair import read_images
from cluster.archive.pair_index import load_index
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse_prepared, fused_luminance
from dmnet_core.operators import laplacian_magnitude
from dmnet_core.prepare import DEFAULT, PreparedPair, prepare_pair

Levels = NDArray[np.float32]
Fuser = Callable[[str, str, PreparedPair], Levels | None]
"""Gives the fused grey levels of a pair of a set, None where there are none."""
RIM = 8


def pairs_of(data: Path, name: str, limit: int) -> Iterator[tuple[str, PreparedPair]]:
    """Yield pair_id and the pair, of at most `limit` pairs spread over a set."""
    pairs = load_index(None, str(data / name / "ir"), str(data / name / "vis"))[0]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int))
    for _, row in pairs.iloc[chosen].iterrows():
        yield row["pair_id"], read_images(row, max_pixels=2**24).prepared(DEFAULT)


def texture(levels: Levels) -> Levels:
    """Return the absolute Laplacian of an image, in grey levels."""
    return laplacian_magnitude(torch.from_numpy(levels)[None, None])[0, 0].numpy()


def clear_sky(vis: Levels) -> NDArray[np.bool_]:
    """Return where the upper half of a visible image is clear sky."""
    around = torch.nn.functional.avg_pool2d(
        torch.from_numpy(texture(vis))[None, None], 9, 1, 4, count_include_pad=False
    )[0, 0].numpy()
    sky = (vis >= 180) & (around <= 2)
    sky[len(sky) // 2 :] = False
    return sky


def measure(fuser: Fuser, data: Path, limit: int) -> dict[str, list[float]]:
    """Return the measured values of each column, one a pair."""
    found: dict[str, list[float]] = {
        name: [] for name in ("darkest", "scans", "all black", "rim", "sky", "level")
    }
    black = np.zeros((480, 640), np.uint8)
    if (fused := fuser("", "black", prepare_pair(black, black))) is not None:
        found["all black"].append(float(fused.max()))
    for name in ("msrs_sample", "medical_ct", "roadscene_test"):
        for pair_id, pair in pairs_of(data, name, limit):
            if (fused := fuser(name, pair_id, pair)) is None:
                continue
            ir, vis = 255 * pair.ir, 255 * pair.vis
            larger = np.maximum(ir, vis)
            if name == "msrs_sample":
                dark = larger <= np.quantile(larger, 0.2)
                found["darkest"].append(float((fused - larger)[dark].mean()))
            elif name == "medical_ct":
                if (empty := larger <= 2).any():
                    found["scans"].append(float(fused[empty].mean()))
            else:
                inner = np.zeros(larger.shape, bool)
                inner[RIM:-RIM, RIM:-RIM] = True
                off = np.abs(fused - larger)
                found["rim"].append(float(off[~inner].mean() / off[inner].mean()))
                if (sky := clear_sky(vis)).mean() >= 0.05:
                    found["sky"].append(float(texture(fused)[sky].mean()))
                    found["level"].append(float((fused - vis)[sky].mean()))
    return found


def main() -> None:
    """Print one row a method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--peers", type=Path, help="folder METHOD/SET/STEM.png of other methods")
    parser.add_argument("--checkpoint", nargs="*", default=["compact", "fast"], help="presets or files")
    parser.add_argument("--limit", type=int, default=50, help="most pairs of a set (50)")
    given = parser.parse_args()

    def network(name: str) -> Fuser:
        path = Path(name) if name.endswith(".safetensors") else None
        model = load_checkpoint(path, preset=name).model

        def fused(_: str, pair_id: str, pair: PreparedPair) -> Levels:
            return np.round(255 * fuse_prepared(model, [pair], pair_ids=[pair_id])[0])

        return fused

    def stored(folder: Path) -> Fuser:
        def fused(name: str, pair_id: str, _: PreparedPair) -> Levels | None:
            path = folder / name / f"{pair_id}.png"
            return 255 * fused_luminance(np.asarray(Image.open(path))) if path.exists() else None

        return fused

    fusers = {name: network(name) for name in given.checkpoint}
    if given.peers:
        fusers |= {path.name: stored(path) for path in sorted(given.peers.iterdir()) if path.is_dir()}
    print("| method | darkest | scans | all black | rim | sky | level |")
    print("|---|---|---|---|---|---|---|")
    for name, fuser in fusers.items():
        means = [
            f"{np.mean(values):.2f}" if values else "-"
            for values in measure(fuser, given.data, given.limit).values()
        ]
        print(f"| {name} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    main()
