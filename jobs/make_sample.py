"""Writes a small archive of generated infrared and visible pairs: python jobs/make_sample.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.config import SampleConfig  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402

NAME = "make_sample"
DESCRIPTION = "Write a small archive of generated infrared and visible pairs, to try the other jobs on."


def parse_arguments(arguments: list[str] | None = None) -> SampleConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, SampleConfig, arguments)


def make(config: SampleConfig) -> str:
    """Write the archive and print where it is; return an empty text."""
    from cluster.archive.sample import write_sample_archive  # takes a second: not before the options

    report = write_sample_archive(config)
    print(f"{report.num_pairs} pairs, {report.num_written} files written")
    print(f"  infrared  {printable(redact_url(report.ir_url))}")
    print(f"  visible   {printable(redact_url(report.vis_url))}")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the job; return 0 done, 2 wrong input, 130 interrupted, 143 ended by SIGTERM."""
    return run(NAME, parse_arguments, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
