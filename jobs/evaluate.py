"""Scores fused images of any number of methods: python jobs/evaluate.py --help."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.evaluating.config import STRETCHES, EvaluateConfig  # noqa: E402
from cluster.evaluating.job import evaluate  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.plain_text import one_line, printable  # noqa: E402


def parse_arguments(arguments: list[str] | None = None) -> EvaluateConfig:
    """Return the config of a command line; exits with 2 and one line where it is wrong."""
    parser = argparse.ArgumentParser(
        description="Score the fused images of any number of methods over an archive, and print the "
        "table of means."
    )
    add = parser.add_argument
    add("--index", metavar="URL", required=True, help="pair index, Parquet or CSV")
    add("--fused", metavar="NAME=URL", nargs="+", default=[],
        help="an output of fuse_archive.py, or a folder of images named as the pairs")  # fmt: skip
    add("--output", metavar="URL", required=True, help="folder or s3:// prefix of the tables")
    add("--no-references", action="store_true", help="without average, max and laplacian")
    add("--stretch", choices=STRETCHES, default="none",
        help="minmax stretches each fused image to 0..255 first (none)")  # fmt: skip
    add("--range", default="auto", metavar="POLICY",
        help="source values to [0, 1]: auto, dtype, minmax, percentile or LOW:HIGH (auto)")  # fmt: skip
    add("--limit", type=int, metavar="N", help="only the first N pairs")
    add("--max-pixels", type=int, default=EvaluateConfig.max_pixels, metavar="N",
        help="larger images are not decoded (%(default)s)")  # fmt: skip
    add("--max-missing", type=float, default=1.0, metavar="SHARE",
        help="exit 1 where a method lacks more than this share of the pairs (1.0)")  # fmt: skip
    add("--ray-address", metavar="HOST:PORT",
        help="Ray cluster to join; default: RAY_ADDRESS, or a local Ray")  # fmt: skip
    given = parser.parse_args(arguments)
    try:
        return EvaluateConfig(
            index_url=given.index,
            output_url=given.output,
            fused=tuple((name, url) for name, _, url in (text.partition("=") for text in given.fused)),
            references=not given.no_references,
            stretch=given.stretch,
            range_policy=given.range,
            max_pixels=given.max_pixels,
            limit=given.limit,
            max_missing=given.max_missing,
            ray_address=given.ray_address,
        )
    except ValueError as error:
        parser.error(one_line(error))


def main() -> int:
    """Run the job; 0 done, 1 a method lacks too many pairs, 2 wrong input."""
    config = parse_arguments()
    try:
        evaluation = evaluate(config)
    except (ValueError, OSError) as error:
        print(f"evaluate: {one_line(error)}", file=sys.stderr)
        return 2
    print(evaluation.text)
    for name, url in evaluation.urls.items():
        print(f"  {name:<8}  {printable(redact_url(url))}")
    if evaluation.problem:
        print(f"evaluate: {one_line(evaluation.problem)}", file=sys.stderr)
    return 1 if evaluation.problem else 0


if __name__ == "__main__":
    sys.exit(main())
