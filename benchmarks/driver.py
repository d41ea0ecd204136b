"""What the driver of jobs/fuse_archive.py costs a window, in CPU seconds and memory.

    python benchmarks/driver.py --pairs 1000 20000 --steps trivial

Each run is the real job in a process of its own: plan, Ray Data, attempt counts, lease, ledger, tables.
Its three steps are trivial (no file, network or store is touched, the rows and the attempt counts are
the real ones), or with `--steps real` the job's own, on one tiny pair that every row of the index names.

CPU seconds are user + system time per 1000 windows, from the first ledger row to the last: of the
driver's process, of the actor that counts attempts, and of Ray's GCS and raylet on the driver's node.
"before" is the driver's CPU time from the start of the job to the first ledger row (index, plan, start
of Ray, blocks of rows), "after" from the last ledger row to the end (Ray's end, tables).
"limit" is the rate at which the driver's process would be busy all the time: its threads share one
interpreter lock, so it is counted as one core. What it costs is per block of rows, of which a run makes
at most `most_blocks`; --batch-size is the least number of rows in one. Blocks below
100 kB pass through the driver, larger ones through Ray's shared memory: --side 512 makes them as large
as real frames'.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.grid import Grid  # noqa: E402
from cluster.archive.pair import OpenPair  # noqa: E402
from cluster.archive.sources.image import SourceImage  # noqa: E402
from cluster.archive.sources.source import decoded  # noqa: E402
from cluster.fusing import job  # noqa: E402
from cluster.fusing.config import FuseConfig  # noqa: E402
from cluster.fusing.ledger import Ledger  # noqa: E402
from cluster.fusing.steps import fuse, read, write  # noqa: E402
from cluster.fusing.steps.rows import RANGES, pack_image  # noqa: E402
from cluster.storage import fused_store, tables  # noqa: E402
from dmnet_core.metrics import METRICS  # noqa: E402

PROCESSES = {"attempts": "ray::AttemptCounts", "gcs": "gcs_server", "raylet": "raylet"}
"""How the title, or the name, of each process beside the driver begins."""
PIXELS = np.zeros((16, 16), np.uint8)
"""What the trivial steps pass on as ir, vis and fused; --side makes another before they are sent."""


def read_trivially(row, **options):
    """Do read_window's work without files: this replaces what it calls, in the worker alone."""
    source = decoded(SourceImage(PIXELS), "")
    pair = OpenPair(Grid(source, source, "identity", None))
    read.open_pair = lambda row, **options: nullcontext(pair)
    return read.read_window(row, **options)


class FuseTrivially(fuse.FuseWindows):
    """FuseWindows without network and metrics; attempts are counted as there."""

    def __init__(self, *, attempts, **_):
        self.attempts = attempts

    def _fuse_all(self, rows):
        numbers = dict.fromkeys(("valid_share", *RANGES, *METRICS), 0.5)
        size = {"height": PIXELS.shape[0], "width": PIXELS.shape[1], "bands": 1, "fuse_s": 0.0}
        size |= {"dtype": "uint8", "survey": b""}
        added = pack_image("fused", PIXELS) | pack_image("valid", None) | size | numbers
        return [fuse._without_sources(row) | added for row in rows]


def write_trivially(row, **options):
    """Do write_window's work without a store."""
    fused_store.write_fused = lambda *_: PIXELS.nbytes
    return write.write_window(row, **options)


class WatchedLedger(Ledger):
    """The ledger, noting what was used by its first rows and, all parts put, by its last."""

    num_pairs = 0
    seen = 0
    first = last = None

    def append(self, rows):
        """Take rows as Ledger does."""
        super().append(rows)
        WatchedLedger.seen += len(rows)
        if self.seen == self.num_pairs:
            self.flush()
            WatchedLedger.last = usage() | {"rows": self.seen}
        elif self.first is None:
            WatchedLedger.first = usage() | {"rows": self.seen}


def usage():
    """Return the time, CPU seconds of the driver and of Ray's processes below it, and memory in MiB."""
    import ray  # noqa: F401, which brings psutil
    import psutil  # isort: skip

    used = {"time": time.monotonic(), "driver": time.process_time()}
    for process in psutil.Process().children(recursive=True):
        try:
            title, seconds = (process.cmdline() or [""])[0], sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
        for name, begin in PROCESSES.items():
            if title.startswith(begin) or Path(title).name == begin:
                used[name] = used.get(name, 0.0) + seconds
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    # Not ru_maxrss: a process begins with that of the one that started it.
    peak, now = (int(status[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS"))
    return used | {"peak": peak, "rss": now}


def write_index(folder, num_pairs, real):
    """Write an index of made-up names, or of one pair's two files under many names; return its URL."""
    index = pd.DataFrame({"pair_id": [f"flight-{n // 1000:04d}/frame-{n:07d}" for n in range(num_pairs)]})
    for side in ("ir", "vis"):
        if real:
            url = index[f"{side}_url"] = f"{folder}/{side}.png"
            levels = np.random.default_rng(0).integers(0, 256, PIXELS.shape, np.uint8)
            Image.fromarray(levels).save(url)
        else:
            index[f"{side}_url"] = f"{folder}/nowhere/{side}/" + index["pair_id"] + ".png"
    url = f"{folder}/pairs.parquet"
    tables.write_table(url, index)
    return url


def run_job(folder, num_pairs, given):
    """Run the job here; print what it used as one line of JSON."""
    global PIXELS
    PIXELS = np.zeros((given.side, given.side), np.uint8)
    if given.steps == "trivial":
        from cluster.fusing import stream

        stream.read_window, stream.write_window = read_trivially, write_trivially
        stream.FuseWindows = FuseTrivially
    job.Ledger = WatchedLedger
    WatchedLedger.num_pairs = num_pairs
    index_url = write_index(folder, num_pairs, given.steps == "real")
    config = FuseConfig(
        index_url=index_url, output_url=f"{folder}/out", num_actors=given.actors,
        cpus_per_actor=1, batch_size=given.batch_size,
    )  # fmt: skip
    begin = {"driver": time.process_time()}  # not usage(), which imports Ray: that is the job's to do
    summary = job.fuse_archive(config)
    assert summary.num_fused == num_pairs, summary
    print(json.dumps([begin, WatchedLedger.first, WatchedLedger.last, usage()]))


def measure(num_pairs, given):
    """Run the job in a process of its own; return the cells of its row."""
    from cluster.runtime.datasets import most_blocks  # brings Ray, whose import is the job's to pay

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--run-in", folder]
        done = subprocess.run(
            [*command, "--pairs", str(num_pairs)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"{num_pairs} pairs: the job failed\n{done.stdout}{done.stderr}")
    begin, first, last, end = json.loads(done.stdout.splitlines()[-1])
    windows, seconds = last["rows"] - first["rows"], last["time"] - first["time"]
    per_1000 = {
        name: (last[name] - first[name]) / windows * 1000 if name in first else float("nan")
        for name in ("driver", *PROCESSES)
    }
    per_block = max(given.batch_size, -(-num_pairs // most_blocks(given.actors)))
    return {
        "pairs": f"{num_pairs}",
        "rows/block": f"{per_block}",
        "wall s": f"{seconds:.1f}",
        "windows/s": f"{windows / seconds:.1f}",
        **{f"{name} CPU": f"{value:.3f}" for name, value in per_1000.items()},
        "limit windows/s": f"{1000 / per_1000['driver']:.0f}",
        "before s": f"{first['driver'] - begin['driver']:.1f}",
        "after s": f"{end['driver'] - last['driver']:.1f}",
        "RSS at first row": f"{first['rss']:.0f} MiB",
        "at last": f"{last['rss']:.0f} MiB",
        "peak RSS": f"{end['peak']:.0f} MiB",
    }


def main():
    """Print a row for each number of pairs as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--steps", choices=("trivial", "real"), default="trivial")
    parser.add_argument("--actors", type=int, default=1, help="actors (1)")
    parser.add_argument("--batch-size", type=int, default=4, help="rows in a block, at least (4)")
    parser.add_argument("--side", type=int, default=16, help="pixels of an image's side (16)")
    parser.add_argument("--run-in", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run_in:
        run_job(given.run_in, given.pairs[0], given)
        return
    if min(given.pairs) < 10 * given.batch_size:
        parser.error("--pairs must be at least ten batches: the first rows are left out")
    for number, num_pairs in enumerate(given.pairs):
        cells = measure(num_pairs, given)
        if not number:
            print(f"{given.steps} steps; CPU in seconds per 1000 windows\n" + "  ".join(cells))
        print("  ".join(f"{cell:>{len(name)}}" for name, cell in cells.items()), flush=True)


if __name__ == "__main__":
    main()
