"""What the metrics cost: python benchmarks/metrics.py.

Times each metric alone and all together on one generated pair, for one thread and for two, and
says which share of the whole each would be. The shares add up to more than one, because together
the metrics share filters and sums.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dmnet_core import metrics  # noqa: E402
from dmnet_core.levels import to_levels  # noqa: E402
from dmnet_core.prepare import prepare_pair  # noqa: E402
from dmnet_core.synthetic import render_scene  # noqa: E402

SINGLE = {
    "EN": lambda ir, vis, fused: metrics.entropy(fused),
    "SD": lambda ir, vis, fused: metrics.standard_deviation(fused),
    "SF": lambda ir, vis, fused: metrics.spatial_frequency(fused),
    "AG": lambda ir, vis, fused: metrics.average_gradient(fused),
    "MI": metrics.mutual_information,
    "CC": metrics.correlation_coefficient,
    "SCD": metrics.sum_of_correlations_of_differences,
    "VIF": metrics.visual_information_fidelity,
    "Qabf": metrics.edge_preservation,
    "MS-SSIM": metrics.joint_ms_ssim,
    "MS-SSIM-Wang": metrics.wang_ms_ssim,
}


def best_seconds(metric, images, repeats):
    """Return the least time of several calls: the one that other load disturbed least."""
    metric(*images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        metric(*images)
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Print milliseconds by metric and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["480x640", "1024x1280"], metavar="HxW")
    parser.add_argument("--repeats", type=int, default=7, help="the least of so many is shown (7)")
    arguments = parser.parse_args()
    for size in arguments.sizes:
        height, width = map(int, size.split("x"))
        pair = prepare_pair(*render_scene("aerial", 0, height, width))
        sides = (torch.from_numpy(image)[None, None] for image in (pair.ir, pair.vis))
        ir, vis = (to_levels(image).round() for image in sides)
        images = (ir, vis, torch.maximum(ir, vis))
        table = {}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            table[threads] = {
                name: best_seconds(metric, images, arguments.repeats)
                for name, metric in (SINGLE | {"all eleven": metrics.fusion_metrics}).items()
            }
        print(f"\n{height} x {width}    1 thread, ms  share   2 threads, ms  share")
        for name in table[1]:
            cells = [
                f"{1e3 * table[t][name]:12.1f}  {table[t][name] / table[t]['all eleven']:5.2f}"
                for t in (1, 2)
            ]
            print(f"{name:<14} {cells[0]}    {cells[1]}", flush=True)


if __name__ == "__main__":
    main()
