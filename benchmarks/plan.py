"""What a run costs that finds nothing to do: index and full ledger of N pairs, seconds and memory.

    python benchmarks/plan.py --pairs 1000000

The ledger is written as a run would have, in parts of a thousand rows; then the job itself runs, first
with --dry-run, then as the nightly run would, tables included.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import COLUMNS, ROWS_PER_PART
from cluster.fusing.output import Output
from cluster.fusing.plan import make_fingerprint
from cluster.storage import fused_store, objects, tables, urls
from dmnet_core.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
JOB = """
import atexit, runpy, sys
atexit.register(lambda: print(open("/proc/self/status").read(), file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a job; what it used is told at its end. Not ru_maxrss: that begins with what its parent used."""
ZERO = {"int64": 0, "float64": 0.5, "str": ""}


def write_archive(folder: Path, num_pairs: int) -> None:
    """Write an index, the ledger that holds all of it, and the store's attributes."""
    names = [f"2026/flight-{n // 1000:04d}/frame-{n:07d}" for n in range(num_pairs)]
    etags = [f"{n:032x}" for n in range(num_pairs)]
    index = pd.DataFrame({"pair_id": names, "ir_size": 300_000, "vis_size": 400_000,
                          "ir_etag": etags, "vis_etag": etags})  # fmt: skip
    for side in ("ir", "vis"):
        index[f"{side}_url"] = [f"s3://bucket/{side}/{name}.png" for name in names]
    tables.write_table(str(folder / "pairs.parquet"), index)
    output = Output(str(folder / "out"))
    config = FuseConfig(output_url=output.url, index_url="pairs.parquet")
    checkpoint = load_checkpoint()
    fingerprint = make_fingerprint(checkpoint, config)
    fused_store.create_store(output.store, {"fingerprint": fingerprint.fields})
    frame = pd.DataFrame({name: pd.Series(ZERO[kind], index=index.index, dtype=kind)
                          for name, kind in COLUMNS.items()})  # fmt: skip
    frame = frame.assign(
        **{name: index[name] for name in index if name in COLUMNS}, status="fused",
        fingerprint=fingerprint.digest, zarr_path=names, recorded_at=np.arange(1.0, num_pairs + 1),
    )  # fmt: skip
    for number, start in enumerate(range(0, num_pairs, ROWS_PER_PART)):
        part = frame.iloc[start : start + ROWS_PER_PART]
        tables.write_table(urls.join_url(output.ledger, f"part-x-{number:06d}.parquet"), part)
    objects.put_bytes(output.preview, b"")  # none of these pairs can be opened to draw one


def main() -> None:
    """Print seconds and peak memory of both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_archive(Path(folder), given.pairs)
        command = [sys.executable, "-c", JOB, str(ROOT / "jobs/fuse_archive.py"),
                   "--index", f"{folder}/pairs.parquet", "--output", f"{folder}/out"]  # fmt: skip
        for extra in (["--dry-run"], []):
            start = time.monotonic()
            done = subprocess.run([*command, *extra], capture_output=True, text=True, check=True)
            seconds = time.monotonic() - start
            assert "pairs to fuse    0" in done.stdout, done.stdout
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stderr)[1]) / 2**20
            name = extra[0] if extra else "nothing left to do"
            print(f"{given.pairs} pairs, {name}: {seconds:.1f} s, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
