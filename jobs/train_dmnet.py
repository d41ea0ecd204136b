"""Trains DMNet by its two stages on indexed pairs: python jobs/train_dmnet.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import ON_RAY, parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402
from cluster.text.units import table  # noqa: E402
from cluster.training.config import TrainConfig  # noqa: E402

NAME = "train_dmnet"
DESCRIPTION = (
    "Train DMNet on pairs, by the paper's two stages. The same command run again goes on from the last "
    f"epoch. {ON_RAY}"
)


def parse_arguments(arguments: list[str] | None = None) -> TrainConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, TrainConfig, arguments)


def train(config: TrainConfig) -> str:
    """Train, and print the last epoch; return why that must not count as a success, or an empty text."""
    from cluster.training.job import train_dmnet  # takes seconds: not before the options are checked

    report = train_dmnet(config)
    if not report.problem:
        last = report.history.iloc[-1].dropna()
        rows = {"pairs": report.num_pairs, **{name: f"{value:.5g}" for name, value in last.items()}}
        print(table(rows | {name: printable(redact_url(url)) for name, url in report.urls.items()}))
    return report.problem


def main(arguments: list[str] | None = None) -> int:
    """Run the job.

    Returns 0 done; 1 a loss was not finite; 2 wrong input or no cluster; 130 interrupted; 143 ended by
    SIGTERM.
    """
    return run(NAME, parse_arguments, train, arguments)


if __name__ == "__main__":
    sys.exit(main())
