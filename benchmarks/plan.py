"""What a run costs that finds nothing to do: index and full ledger of N pairs, seconds and memory.

    python benchmarks/plan.py --pairs 1000000
    python benchmarks/plan.py --pairs 100000 --stored
    python benchmarks/plan.py --pairs 100000 --url s3://bucket/plan --code . ../other-checkout

The ledger is written as a run would have, in parts of a thousand rows; then the job itself runs, first
with --dry-run, then as the nightly run would, tables included. With --stored the three objects of each
pair are written too, and a run with --verify comes last. Several checkouts of the code take turns.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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
"""Runs a job and prints its memory at its end. Not ru_maxrss: that begins with what its parent used."""
ZERO = {"int64": 0, "float64": 0.5, "str": ""}


def write_archive(url: str, num_pairs: int, stored: bool) -> None:
    """Write an index, the ledger that holds all of it, and the store: its attributes or all objects."""
    names = [f"2026/flight-{n // 1000:04d}/frame-{n:07d}" for n in range(num_pairs)]
    etags = [f"{n:032x}" for n in range(num_pairs)]
    index = pd.DataFrame({"pair_id": names, "ir_size": 300_000, "vis_size": 400_000,
                          "ir_etag": etags, "vis_etag": etags})  # fmt: skip
    for side in ("ir", "vis"):
        index[f"{side}_url"] = [f"s3://bucket/{side}/{name}.png" for name in names]
    tables.write_table(urls.join_url(url, "pairs.parquet"), index)
    output = Output(urls.join_url(url, "out"))
    config = FuseConfig(output_url=output.url, index_url="pairs.parquet")
    fingerprint = make_fingerprint(load_checkpoint(), config)
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
    if stored:
        ends = ("/fused/zarr.json", "/fused/c/0/0", "/zarr.json")  # what a frame needs to be complete
        with ThreadPoolExecutor(16) as pool:
            keys = (urls.join_url(output.store, name + end) for name in names for end in ends)
            list(pool.map(lambda key: objects.put_bytes(key, b"x"), keys))


def measure(code: Path, url: str, num_pairs: int, *extra: str) -> None:
    """Run the job of a checkout once; print its seconds and peak memory."""
    job = [sys.executable, "-c", JOB, str(code / "jobs/fuse_archive.py")]
    start = time.monotonic()
    job += ["--index", urls.join_url(url, "pairs.parquet"), "--output", urls.join_url(url, "out")]
    done = subprocess.run([*job, *extra], capture_output=True, text=True, check=True, cwd=code)
    seconds = time.monotonic() - start
    assert "pairs to fuse    0" in done.stdout, done.stdout
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stderr)[1]) / 2**20
    name = " ".join(extra) or "nothing left to do"
    print(f"{code.name}, {num_pairs} pairs, {name}: {seconds:.1f} s, peak {peak:.2f} GiB", flush=True)


def main() -> None:
    """Print seconds and peak memory of every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--url", help="folder or s3:// prefix to write to; a temporary one without it")
    parser.add_argument("--stored", action="store_true", help="write the store's objects too")
    parser.add_argument("--code", type=Path, nargs="+", default=[ROOT], help="checkouts of the code")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or folder
        write_archive(url, given.pairs, given.stored)
        for extra in (["--dry-run"], [], *([["--verify"]] if given.stored else [])):
            for code in given.code:
                measure(code.resolve(), url, given.pairs, *extra)


if __name__ == "__main__":
    main()
