"""DMNet's single ablations (Table V, AE1 and AE11 to AE14) on one short budget each.

    python benchmarks/ablations.py --train roadscene_train.parquet --test roadscene_test.parquet \
        --output ablations --max-steps 400

Trains `compact` whole and without each part, from the same seed and for the same number of steps; fuses
the test pairs with each and scores them in one table. All by the project's own jobs, so a run that was
stopped goes on.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "whole": "",
    "without two stages": "two-stage",
    "without DTB": "dtb",
    "without DIB": "dib",
    "without DM": "dm",
    "without CSAB": "csab",
}
SETTINGS = [
    "--crop", "128", "64", "--batch-size", "2", "--crops-per-pair", "4", "--epochs", "15", "30",
    "--learning-rate", "1e-3", "--schedule", "cosine", "--warm-up", "50", "--clip", "1",
    "--ema", "0.99", "--validation-pairs", "1",
]  # fmt: skip


def run_job(name: str, *arguments: str) -> None:
    """Run one job, with its output shown."""
    print(f"$ {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, str(ROOT / f"jobs/{name}.py"), *arguments], check=True)


def main() -> None:
    """Train, fuse and score every variant; the table is the last thing printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", required=True, help="pair indexes to train on")
    parser.add_argument("--test", required=True, help="pair index to score on")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, default=400)
    parser.add_argument("--gpu", action="store_true", help="train and fuse on a GPU")
    parser.add_argument("--jobs", type=int, default=1, help="variants at once (1)")
    given = parser.parse_args()
    train_on, fuse_on = (["--gpu"], ["--gpus-per-actor", "1"]) if given.gpu else ([], [])

    def make(name: str, without: str) -> str:
        folder = given.output / name.replace(" ", "-")
        train = ["--index", *given.train, "--output", str(folder / "training"), *SETTINGS]
        left_out = ["--without", without] if without else []
        steps = ["--max-steps", str(given.max_steps), *left_out, *train_on]
        run_job("train_dmnet", *train, *steps)
        weights = str(folder / "training/dmnet.safetensors")
        run_job("fuse_archive", "--index", given.test, "--output", str(folder / "fused"),
                "--dtype", "uint16", "--checkpoint", weights, *fuse_on)  # fmt: skip
        return f"{name}={folder / 'fused'}"

    with ThreadPoolExecutor(given.jobs) as pool:
        methods = list(pool.map(make, VARIANTS, VARIANTS.values()))
    run_job("evaluate", "--index", given.test, "--output", str(given.output / "scores"),
            "--no-references", "--fused", *methods)  # fmt: skip


if __name__ == "__main__":
    main()
