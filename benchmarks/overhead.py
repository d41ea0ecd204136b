"""What the job costs beyond the network: python benchmarks/overhead.py --ir DIR --vis DIR.

Fuses the same frames twice on the CPU: the bare network and the metrics on decoded arrays, each timed;
then jobs/fuse_archive.py with everything (Ray, decoding, Zarr, ledger).
The job's time runs from its first ledger rows to its last, so Ray's start is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cluster.archive.pair import read_images  # noqa: E402
from cluster.archive.pair_index import load_index  # noqa: E402
from cluster.fusing.config import FuseConfig  # noqa: E402
from cluster.storage import tables  # noqa: E402
from dmnet_core.checkpoint import load_checkpoint  # noqa: E402
from dmnet_core.inference import fuse_prepared  # noqa: E402
from dmnet_core.levels import to_levels  # noqa: E402
from dmnet_core.metrics import fusion_metrics  # noqa: E402

MAX_PIXELS = FuseConfig.max_pixels


def bare_seconds(index):
    """Return seconds a pair of the network and of the metrics; decoding is not counted.

    Both are timed pair by pair in turn, after one pair that warms up.
    """
    model = load_checkpoint().model
    pairs = [decoded_pair(row) for row in index.itertuples()]
    network = metrics = 0.0
    for number, (pair_id, pair) in enumerate([pairs[0], *pairs]):
        start = time.perf_counter()
        fused = fuse_prepared(model, [pair], pair_ids=[pair_id])[0]
        fused_at = time.perf_counter()
        images = (torch.from_numpy(image)[None, None] for image in (pair.ir, pair.vis, fused))
        fusion_metrics(*map(to_levels, images))
        if number > 0:
            network += fused_at - start
            metrics += time.perf_counter() - fused_at
    return network / len(index), metrics / len(index)


def decoded_pair(row):
    """Return the pair's id and its prepared images."""
    return row.pair_id, read_images(row._asdict(), max_pixels=MAX_PIXELS).prepared()


def job_seconds(arguments):
    """Return seconds a pair of the job between its first and last ledger rows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(ROOT / "jobs/fuse_archive.py"), "--ir", arguments.ir,
            "--vis", arguments.vis, "--limit", str(arguments.limit), "--output", folder,
            "--cpus-per-actor", str(arguments.threads),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times = tables.read_table(f"{folder}/ledger")["recorded_at"].sort_values()
    later = times[times > times.min()]
    return (times.max() - times.min()) / len(later)


def main():
    """Print seconds a pair and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ir", required=True)
    parser.add_argument("--vis", required=True)
    parser.add_argument("--limit", type=int, default=100, help="frames (100)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network (2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    index = load_index(None, arguments.ir, arguments.vis)[0].head(arguments.limit)
    network, metrics = bare_seconds(index)
    job = job_seconds(arguments)
    for name, seconds in (("network", network), ("metrics", metrics), ("job", job)):
        print(f"{name:8} {seconds:.3f} s/pair   {seconds / network:.2f}")


if __name__ == "__main__":
    main()
