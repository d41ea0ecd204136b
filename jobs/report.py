"""Writes a report on an output of fuse_archive, a page for the browser: python jobs/report.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.reporting.config import ReportConfig  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402

NAME = "report"
DESCRIPTION = (
    "Write OUT/report/index.html on an output of fuse_archive: counts, runs, distributions, the worst "
    "and the best pairs as images, and a search. The page opens from a folder or a bucket and loads "
    "nothing from elsewhere. fuse_archive writes it too, at the end of each run."
)


def parse_arguments(arguments: list[str] | None = None) -> ReportConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, ReportConfig, arguments)


def report(config: ReportConfig) -> str:
    """Write the report and print where it is; return an empty text, since it is there."""
    from cluster.reporting.job import write_report  # takes seconds: not before the options are checked

    written = write_report(config)
    print(written.text)
    print(f"  report  {printable(redact_url(written.url))}")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the job; return 0 done, 2 wrong input or failing storage, 130 interrupted, 143 by SIGTERM."""
    return run(NAME, parse_arguments, report, arguments)


if __name__ == "__main__":
    sys.exit(main())
