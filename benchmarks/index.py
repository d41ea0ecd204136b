"""How long an index of many pairs takes: python benchmarks/index.py --pairs 100000."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.config import IndexConfig  # noqa: E402
from cluster.archive.pair_index import build_index  # noqa: E402


def main():
    """Make empty files in folders of 1000, index them, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    num_pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        for side, extension in (("ir", "png"), ("vis", "JPG")):
            for number in range(num_pairs):
                path = Path(folder, side, f"{number // 1000:04d}", f"{number:07d}.{extension}")
                if number % 1000 == 0:
                    path.parent.mkdir(parents=True)
                path.touch()
        start = time.perf_counter()
        config = IndexConfig(
            ir_url=f"{folder}/ir", vis_url=f"{folder}/vis", output_url=f"{folder}/pairs.parquet"
        )
        report = build_index(config)
        print(f"{report.num_pairs} pairs indexed in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
