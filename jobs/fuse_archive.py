"""Fuses an archive of infrared and visible pairs: python jobs/fuse_archive.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.fusing.config import FuseConfig  # noqa: E402
from cluster.text.job_main import ON_RAY, parse_config, run  # noqa: E402

NAME = "fuse_archive"
DESCRIPTION = (
    "Fuse an archive of paired infrared and visible images. The same command run again goes on: it "
    f"fuses only pairs that are new or whose images changed. {ON_RAY}"
)


def parse_arguments(arguments: list[str] | None = None) -> FuseConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, FuseConfig, arguments)


def fuse(config: FuseConfig) -> str:
    """Fuse the archive; return why that must not count as a success, or an empty text."""
    from cluster.fusing.job import fuse_archive  # takes seconds: not before the options are checked
    from cluster.reporting.after_run import report_after_run

    return fuse_archive(config, report_after_run if config.report else None).problem


def main(arguments: list[str] | None = None) -> int:
    """Run the job.

    Returns 0 done; 1 a pair is unaccounted for, too many were rejected or none was fused; 2 wrong input,
    failing storage or no cluster; 3 another run holds the output; 130 interrupted; 143 ended by SIGTERM.
    """
    return run(NAME, parse_arguments, fuse, arguments)


if __name__ == "__main__":
    sys.exit(main())
