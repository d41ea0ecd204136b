"""Trains DMNet by its two stages on indexed pairs: python jobs/train_dmnet.py --help."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.plain_text import one_line, printable  # noqa: E402
from cluster.text.units import table  # noqa: E402
from cluster.training.config import TrainConfig  # noqa: E402
from cluster.training.job import train_dmnet  # noqa: E402

STAGES = {"1": (1, 0), "2": (0, 1), "both": (1, 1)}


def parse_arguments(arguments: list[str] | None = None) -> TrainConfig:
    """Return the config of a command line; exits with 2 and one line where it is wrong."""
    parser = argparse.ArgumentParser(
        description="Train DMNet on pairs. Run again, it goes on from the last epoch."
    )
    add = parser.add_argument
    add("--index", metavar="URL", nargs="+", required=True, help="pair indexes, Parquet or CSV")
    add("--output", metavar="URL", required=True, help="folder or s3:// prefix of the training")
    add("--preset", choices=("compact", "paper"), default="compact", help="(compact)")
    add("--stage", choices=STAGES, default="both", help="1, 2 or both (both)")
    add("--without", default="", metavar="PARTS", help="ablations: dtb,dib,dm,csab,two-stage")
    add("--checkpoint", metavar="URL", help="weights to begin with, for --stage 2 those of stage 1")
    add("--epochs", type=int, nargs=2, default=(15, 30), metavar="N", help="of both stages (15 30)")
    add("--crop", type=int, nargs="+", default=[128], metavar="PX", help="sides, drawn by step (128)")
    add("--crops-per-pair", type=int, default=1, metavar="N", help="an epoch (1)")
    add("--batch-size", type=int, default=8, metavar="N", help="crops of the first side a step (8)")
    add("--vary-tones", action="store_true", help="give half of the crops another tone curve")
    add("--learning-rate", type=float, default=1e-4, metavar="X", help="Adam's peak (1e-4)")
    add("--schedule", choices=("constant", "cosine"), default="constant", help="(constant)")
    add("--warm-up", type=int, default=0, metavar="N", help="steps (0)")
    add("--clip", type=float, default=0.0, metavar="X", help="largest norm of a gradient; 0 none (0)")
    add("--ema", type=float, default=0.0, metavar="X", help="decay of the average of weights (0)")
    add("--mu", type=float, default=5.0, metavar="X", help="of 1 - SSIM in stage 1 (5)")
    add("--lambda1", type=float, default=1.0, metavar="X", help="of the infrared in stage 1 (1)")
    add("--lambda2", type=float, default=10.0, metavar="X", help="of the gradients in stage 2 (10)")
    add("--gradient", choices=("sobel", "canny", "log", "roberts"), default="sobel", help="(sobel)")
    add("--bf16", action="store_true", help="run the network in bfloat16")
    add("--max-steps", type=int, metavar="N", help="stop after this many steps")
    add("--max-minutes", type=float, metavar="X", help="stop after this time, all runs together")
    add("--validation-pairs", type=int, default=4, metavar="N", help="held out and scored (4)")
    add("--seed", type=int, default=0, metavar="N", help="of all chance (0)")
    add("--workers", type=int, default=1, metavar="N", help="processes that train (1)")
    add("--cpus-per-worker", type=int, default=2, metavar="N", help="CPU threads of each (2)")
    add("--gpu", action="store_true", help="give each worker a GPU")
    add("--ray-address", metavar="HOST:PORT",
        help="Ray cluster to join; default: RAY_ADDRESS, or a local Ray")  # fmt: skip
    given = parser.parse_args(arguments)
    epochs = tuple(n * used for n, used in zip(given.epochs, STAGES[given.stage], strict=True))
    renamed = {"index", "output", "stage", "checkpoint", "crop", "workers", "gpu"}
    same = {name: value for name, value in vars(given).items() if name not in renamed}
    try:
        return TrainConfig(
            **same
            | {
                "index_urls": tuple(given.index),
                "output_url": given.output,
                "checkpoint_url": given.checkpoint,
                "without": tuple(part for part in given.without.split(",") if part),
                "epochs": epochs,
                "crop_sides": tuple(given.crop),
                "num_workers": given.workers,
                "use_gpu": given.gpu,
            }
        )
    except ValueError as error:
        parser.error(one_line(error))


def main() -> int:
    """Run the job; 0 done, 1 a loss was not finite, 2 wrong input."""
    config = parse_arguments()
    try:
        report = train_dmnet(config)
    except (ValueError, OSError) as error:
        print(f"train_dmnet: {one_line(error)}", file=sys.stderr)
        return 2
    if report.problem:
        print(f"train_dmnet: {one_line(report.problem)}", file=sys.stderr)
        return 1
    last = report.history.iloc[-1].dropna()
    rows = (
        {"pairs": report.num_pairs, **{name: f"{value:.5g}" for name, value in last.items()}}
        | {name: printable(redact_url(url)) for name, url in report.urls.items()}
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
