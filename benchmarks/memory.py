"""What one actor takes at most, beside what --dry-run foretells, for growing images.

    python benchmarks/memory.py --sides 480x640 1024x1280 2048x2048
    python benchmarks/memory.py --preset fast
    python benchmarks/memory.py --preset paper --sides 256x256 384x384

Each size runs in a process of its own, on made-up pixels: a small image first, so that the libraries
are there, then the one that is measured, a smaller one, and the first again, through FuseWindows as an
actor does it (with `--preset paper`, whose weights are not shipped, through the network alone).
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.fusing.estimate import actor_bytes
from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import Opening
from cluster.fusing.steps.rows import FRAME, pack_image
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.model import DMNet
from dmnet_core.model.config import DMNetConfig
from dmnet_core.prepare import Reading


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuser(preset):
    """Return a function that fuses an image of a size, and the network."""
    random = np.random.default_rng(0)
    if preset == "paper":
        model = DMNet(DMNetConfig.paper()).eval()
        return lambda *size: fuse(model, *random.integers(0, 255, (2, *size), dtype=np.uint8)), model
    checkpoint = load_checkpoint(preset=preset)
    step = FuseWindows(
        checkpoint_url=None, digest=checkpoint.digest, device="cpu", num_threads=2,
        opening=Opening(max_pixels=2**31, window=16_384, halo=0), statistics_url="", reading=Reading(),
        output_dtype="uint8", precision="fp32", seed=0, preset=preset,
    )  # fmt: skip

    def run(height, width):
        ir = random.integers(0, 255, (height, width), dtype=np.uint8)
        vis = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
        row = {"pair_id": "a", "window": 0, "task": FRAME, "reason": "", "detail": ""}
        row |= pack_image("ir", ir) | pack_image("vis", vis)
        row |= pack_image("ir_valid", None) | pack_image("vis_valid", None)
        (fused,) = step.fuse_rows([row])
        assert not fused["reason"], fused["detail"]

    return run, checkpoint.model


def measure(preset, height, width):
    torch.set_num_threads(2)
    run, model = fuser(preset)
    run(64, 64)
    before = peak_bytes()
    for part in (1.0, 0.6, 1.0):  # sizes in turn, since what is kept of one may not fit the next
        run(int(part * height), int(part * width))
    foretold = actor_bytes(model, height * width)
    a_pixel = (peak_bytes() - before) / (height * width)
    print(f"| {height} x {width} | {before / 1e9:.2f} | {peak_bytes() / 1e9:.2f} | "
          f"{foretold / 1e9:.2f} | {a_pixel:.0f} |", flush=True)  # fmt: skip


def main():
    """Print a table: before, at most and foretold in GB, and bytes a pixel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="+", default=["480x640", "1024x1280"], metavar="HxW")
    parser.add_argument("--preset", choices=("compact", "fast", "paper"), default="compact")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(given.preset, *map(int, given.one.split("x")))
        return
    print("| size | before, GB | at most, GB | foretold, GB | bytes a pixel |\n|---|---|---|---|---|")
    sys.stdout.flush()
    for sides in given.sides:
        command = [sys.executable, __file__, "--preset", given.preset, "--one", sides]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
