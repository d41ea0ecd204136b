"""What a training loses without one of its parts, on one short budget each.

    python benchmarks/ablations.py --of parts --train roadscene_train.parquet \
        --test roadscene_test.parquet --output ablations --max-steps 400

`--of parts`: the single ablations of DMNet's Table V (AE1 and AE11 to AE14), `compact` under the paper's
loss. `--of combinations`: these, and every combination of DTB, DIB, DM and CSAB left out together, eleven
of them: AE2 to AE10 are nine of these. `--of terms`: the terms of the loss that the weights of the
package were trained with; each variant goes on from the weights of `fast`. `--of operators`: the gradient
operators of Table VI, `fast` under the paper's loss. `--of diffusion`: `fast` with and without DM, and
with the mean of all layers' outputs in place of the dense links, under the loss of the package's weights.
Every variant is trained from the same seeds for the same number of steps, or of minutes, fuses the test
pairs, and is scored in one table. All by the project's own jobs, so a run that was stopped goes on.
"""

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dmnet_core.checkpoint import SHIPPED_WEIGHTS  # noqa: E402
from dmnet_core.operators import OPERATORS  # noqa: E402
from jobs.train_dmnet import parse_arguments  # noqa: E402

PARTS = {
    "whole": [],
    "without two stages": ["--without", "two-stage"],
    "without DTB": ["--without", "dtb"],
    "without DIB": ["--without", "dib"],
    "without DM": ["--without", "dm"],
    "without CSAB": ["--without", "csab"],
}
"""Options of each variant by its name."""
COMBINATIONS = PARTS | {
    f"without {'+'.join(name.upper() for name in left_out)}": ["--without", *left_out]
    for number in (2, 3, 4)
    for left_out in itertools.combinations(("dtb", "dib", "dm", "csab"), number)
}
"""Options of each variant by its name."""
SHIPPED = parse_arguments([f"@{ROOT}/docs/fast.args", "--index", "i.csv", "--output", "o"])
"""Settings of the weights that come with the package."""


def with_terms(left_out: str) -> list[str]:
    """Return the options of the whole loss without one part, which is of ADDED; "" leaves nothing out."""
    options = ["--lambda0", str(SHIPPED.lambda0), "--lambda2", str(SHIPPED.lambda2)]
    options += [] if left_out == "guard" else ["--guard"]
    options += [] if left_out == "directed" else ["--directed"]
    options += [] if left_out == "gain" else ["--gradient-gain", str(SHIPPED.gradient_gain)]
    return [*options, "--terms", *(term for term in SHIPPED.terms if term.split("=")[0] != left_out)]


ADDED = (*SHIPPED.term_weights(), "guard", "directed", "gain")
"""What the loss of the package's weights has beside the paper's."""
GOING_ON = ["--preset", "fast", "--checkpoint", str(SHIPPED_WEIGHTS["fast"]), "--epochs", "0", "45"]
"""Options of a training that goes on from the package's weights: few steps show what a term does."""
TERMS = {
    "whole": [*GOING_ON, *with_terms("")],
    "loss of the paper": GOING_ON,
    **{f"without {name}": [*GOING_ON, *with_terms(name)] for name in ADDED},
}
"""Options of each variant by its name."""
GRADIENTS = {name: ["--preset", "fast", "--gradient", name] for name in OPERATORS}
"""Options of each variant by its name."""
DIFFUSION = {
    "whole": ["--preset", "fast", *with_terms("")],
    "without DM": ["--preset", "fast", *with_terms(""), "--without", "dm"],
    "without links": ["--preset", "fast", *with_terms(""), "--without", "links"],
}
"""Options of each variant by its name."""
VARIANTS = {
    "parts": PARTS, "combinations": COMBINATIONS, "terms": TERMS, "operators": GRADIENTS,
    "diffusion": DIFFUSION,
}  # fmt: skip
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
    parser.add_argument("--of", choices=tuple(VARIANTS), default="parts")
    parser.add_argument("--train", nargs="+", required=True, help="pair indexes to train on")
    parser.add_argument("--test", required=True, help="pair index to score on")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, default=400)
    parser.add_argument("--max-minutes", help="minutes of each training, in place of --max-steps")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant (1)")
    parser.add_argument("--gpu", action="store_true", help="train and fuse on a GPU")
    parser.add_argument("--jobs", type=int, default=1, help="variants at once (1)")
    given = parser.parse_args()
    by_time = ["--max-minutes", given.max_minutes]
    length = by_time if given.max_minutes else ["--max-steps", str(given.max_steps)]
    threads = str(max(1, (os.cpu_count() or 1) // given.jobs))  # more would wait for each other
    train_on, fuse_on = ["--cpus-per-worker", threads], ["--cpus-per-actor", threads]
    if given.gpu:
        train_on, fuse_on = ["--gpu"], ["--gpus-per-actor", "1"]

    def make(name: str, options: list[str]) -> str:
        folder = given.output / name.replace("+", "-").replace(" ", "-")
        train = ["--index", *given.train, "--output", str(folder / "training"), *SETTINGS]
        run_job("train_dmnet", *train, *length, *options, *train_on)
        weights = str(folder / "training/dmnet.safetensors")
        run_job("fuse_archive", "--index", given.test, "--output", str(folder / "fused"),
                "--dtype", "uint16", "--checkpoint", weights, *fuse_on)  # fmt: skip
        return f"{name}={folder / 'fused'}"

    variants = VARIANTS[given.of]
    if given.seeds > 1:  # variants of one seed run side by side, and share the machine alike
        variants = {
            f"{name} seed {seed}": [*options, "--seed", str(seed)]
            for seed in range(given.seeds)
            for name, options in variants.items()
        }
    with ThreadPoolExecutor(given.jobs) as pool:
        methods = list(pool.map(make, variants, variants.values()))
    run_job("evaluate", "--index", given.test, "--output", str(given.output / "scores"),
            "--no-references", "--fused", *methods)  # fmt: skip


if __name__ == "__main__":
    main()
