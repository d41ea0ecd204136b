"""Scores fused images of any number of methods: python jobs/evaluate.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.evaluating.config import EvaluateConfig  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import ON_RAY, parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402

NAME = "evaluate"
DESCRIPTION = (
    "Score the fused images of any number of methods over an archive, print the table of means, and "
    "write a page that shows the methods side by side. "
    f"{ON_RAY}"
)


def parse_arguments(arguments: list[str] | None = None) -> EvaluateConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, EvaluateConfig, arguments)


def score(config: EvaluateConfig) -> str:
    """Score and print; return why that must not count as a success, or an empty text."""
    from cluster.evaluating.job import evaluate  # takes seconds: not before the options are checked
    from cluster.reporting.methods import write_methods_page

    evaluation = evaluate(config, write_methods_page if config.report else None)
    print(evaluation.text)
    for name, url in evaluation.urls.items():
        print(f"  {name:<8}  {printable(redact_url(url))}")
    return evaluation.problem


def main(arguments: list[str] | None = None) -> int:
    """Run the job.

    Returns 0 done; 1 a method lacks too many pairs; 2 wrong input or no cluster; 130 interrupted; 143
    ended by SIGTERM.
    """
    return run(NAME, parse_arguments, score, arguments)


if __name__ == "__main__":
    sys.exit(main())
