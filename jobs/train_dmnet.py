"""Train DMNet by its two stages on folders of aligned pairs.

    python jobs/train_dmnet.py --data DIR [DIR ...] --output DIR --max-minutes 50
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.config import TrainConfig  # noqa: E402
from cluster.training import train_dmnet  # noqa: E402


def parse_arguments(arguments: list[str] | None = None) -> TrainConfig:
    """Return the config that the command line asks for."""
    parser = argparse.ArgumentParser(prog="train_dmnet", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", nargs="+", required=True, help="folders or prefixes that each hold ir/ and vis/"
    )
    parser.add_argument("--output", required=True, help="folder of checkpoints; resumes from it")
    parser.add_argument("--preset", default="compact", help="compact (default) or paper")
    parser.add_argument("--max-minutes", type=float, default=50.0, help="of both stages together")
    parser.add_argument("--max-steps", type=int, help="stop after this many steps")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="Adam's peak (1e-3)")
    parser.add_argument("--lambda2", type=float, default=4.0, help="weight of L_gd (4)")
    parser.add_argument("--seed", type=int, default=0, help="of crops, noise and first weights")
    given = parser.parse_args(arguments)
    return TrainConfig(
        data_urls=tuple(given.data),
        output_url=given.output,
        preset=given.preset,
        max_minutes=given.max_minutes,
        max_steps=given.max_steps,
        learning_rate=given.learning_rate,
        lambda2=given.lambda2,
        seed=given.seed,
    )


def main() -> int:
    """Run the job; return its exit code."""
    try:
        progress = train_dmnet(parse_arguments())
    except (ValueError, OSError) as error:
        print(f"train_dmnet: {error}", file=sys.stderr)
        return 2
    print(f"{progress.step} steps in {progress.elapsed_s / 60:.1f} min: dmnet.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
