"""Makes the pair index of an archive: python jobs/index_archive.py --help."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.config import IndexConfig  # noqa: E402
from cluster.archive.pair_index import build_index  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.plain_text import one_line, printable  # noqa: E402


def parse_arguments(arguments: list[str] | None = None) -> IndexConfig:
    """Return the config of a command line; exits with 2 and one line where it is wrong."""
    parser = argparse.ArgumentParser(
        description="List an archive's infrared and visible images and match them into pairs."
    )
    parser.add_argument("--ir", required=True, metavar="URL", help="folder or s3:// prefix")
    parser.add_argument("--vis", required=True, metavar="URL", help="folder or s3:// prefix")
    parser.add_argument("--output", required=True, metavar="FILE", help=".parquet or .csv to write")
    pattern_help = "how the relative path without extension spells the pair_id, as '{id}_ir'"
    parser.add_argument("--ir-pattern", default="{id}", metavar="TEXT", help=pattern_help)
    parser.add_argument("--vis-pattern", default="{id}", metavar="TEXT", help=pattern_help)
    given = parser.parse_args(arguments)
    try:
        return IndexConfig(
            ir_url=given.ir,
            vis_url=given.vis,
            output_url=given.output,
            ir_pattern=given.ir_pattern,
            vis_pattern=given.vis_pattern,
        )
    except ValueError as error:
        parser.error(one_line(error))


def main() -> int:
    """Run the job and return its exit code."""
    config = parse_arguments()
    try:
        report = build_index(config)
    except (ValueError, OSError) as error:
        print(f"index_archive: {one_line(error)}", file=sys.stderr)
        return 2
    index, unmatched = (
        printable(redact_url(url)) for url in (report.index_url, report.unmatched_url)
    )
    print(f"{report.num_pairs} pairs in {index}")
    for reason, count in sorted(report.num_unmatched.items()):
        print(f"{count} names without a pair ({reason}), listed in {unmatched}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
