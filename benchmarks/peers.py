"""Published networks, reference methods and ours in one table, raw and stretched, with a page to look at.

    python benchmarks/peers.py --data DATA --output peers

DATA/SET/ir and DATA/SET/vis hold the test sets, and DATA/peers/METHOD/SET/NAME.png the images that
published networks made of them. Fuses the sets with the weights of the package, and scores everything in
one evaluation as the files are and in one with --stretch minmax: peers/none and peers/minmax hold
table.md and report/index.html. All by the project's own jobs, so a run that was stopped goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
SETS = ("tno_test", "roadscene_test", "msrs_sample")
PRESETS = ("compact", "fast")


def run_job(name: str, *arguments: object) -> None:
    """Run one job, with its output shown."""
    subprocess.run([sys.executable, str(ROOT / f"jobs/{name}.py"), *map(str, arguments)], check=True)


def main() -> None:
    """Index, fuse and score; the tables are the last things printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets and of peers")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"test sets ({' '.join(SETS)})")
    parser.add_argument(
        "--fused", nargs="+", default=[], metavar="NAME=URL", help="further methods, as for evaluate.py"
    )
    given = parser.parse_args()
    index = given.output / "pairs.parquet"
    given.output.mkdir(parents=True, exist_ok=True)
    run_job(
        "index_archive", "--ir", given.data, "--vis", given.data, "--output", index,
        "--ir-pattern", "{set}/ir/{frame}", "--vis-pattern", "{set}/vis/{frame}",
    )  # fmt: skip
    pairs = pd.read_parquet(index)
    pairs = pairs.assign(set=pairs["pair_id"].str.partition("/")[0])
    pairs[pairs["set"].isin(given.sets)].to_parquet(index)
    methods = []
    for preset in PRESETS:
        output = given.output / preset
        run_job("fuse_archive", "--index", index, "--output", output, "--preset", preset, "--no-report")
        methods.append(f"{preset}={output}")
    peers = sorted(path for path in (given.data / "peers").iterdir() if path.is_dir())
    methods += [*(f"{path.name}={path}" for path in peers), *given.fused]
    for stretch in ("none", "minmax"):
        scores = given.output / stretch
        options = ["--output", scores, "--stretch", stretch, "--fused", *methods]
        run_job("evaluate", "--index", index, *options)


if __name__ == "__main__":
    main()
