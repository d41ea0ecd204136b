"""Draws what the attention block (CSAB) does to the feature maps of one pair, as the paper's Fig. 11.

    python benchmarks/attention.py --ir ir.png --vis vis.png --output heat.png

Above before CSAB, below after it; from left to right the latent map, the infrared's detail, the visible
image's detail. Each map is coloured by itself, from its weakest features to its strongest.
`jobs/report.py --heat-maps` shows the same for the pairs of an archive.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.encoding import encode_image
from cluster.archive.pair import read_images
from cluster.reporting.heat_maps import draw_heat_maps
from dmnet_core.attention import MAPS, csab_maps
from dmnet_core.checkpoint import load_checkpoint


def main() -> None:
    """Write the picture, and print how much CSAB scales each map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ir", required=True, help="infrared image")
    parser.add_argument("--vis", required=True, help="visible image of the same size")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--preset", default="compact", help="weights of the package (compact)")
    parser.add_argument("--checkpoint", type=Path, help="weights of one's own")
    given = parser.parse_args()
    row = {"pair_id": Path(given.vis).stem, "ir_url": given.ir, "vis_url": given.vis}
    pair = read_images(row, max_pixels=16_777_216).prepared()
    model = load_checkpoint(given.checkpoint, preset=given.preset).model
    maps = csab_maps(model, pair, pair_id=row["pair_id"])
    given.output.write_bytes(encode_image(draw_heat_maps(maps), "png", 0))
    for name in MAPS:
        before, after = maps[name]
        print(f"{name:<16}  mean {before.mean():.3f} before, {after.mean():.3f} after")


if __name__ == "__main__":
    main()
