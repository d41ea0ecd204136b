"""Makes the pair index of an archive: python jobs/index_archive.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.config import IndexConfig  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402

NAME = "index_archive"
DESCRIPTION = (
    "List an archive's infrared and visible images, and match them into pairs by their names, or as the "
    "assets of STAC items."
)


def parse_arguments(arguments: list[str] | None = None) -> IndexConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, IndexConfig, arguments)


def index(config: IndexConfig) -> str:
    """Write the index and print what is in it; return an empty text."""
    from cluster.archive.matching import NO_PAIR  # takes a second: not before the options
    from cluster.archive.pair_index import build_index

    report = build_index(config)
    written, unmatched = (
        printable(redact_url(url)) for url in (report.index_url, report.unmatched_url)
    )
    print(f"{report.num_pairs} pairs in {written}{' (not written)' if config.dry_run else ''}")
    for pair_id, ir, vis in report.pairs if config.dry_run else report.pairs[:1]:
        print(f"  {'' if config.dry_run else 'for example '}{pair_id!r}: {ir!r} with {vis!r}")
    if report.num_unknown_camera:
        named = printable(redact_url(config.cameras_url or ""))
        print(f"{report.num_unknown_camera} pairs of cameras that {named} does not name: no homography")
    for reason, count in sorted(report.num_unmatched.items()):
        what = "names without a pair" if reason in NO_PAIR else "files left out"
        print(f"{count} {what} ({reason}){'' if config.dry_run else f', listed in {unmatched}'}")
        print(f"  for example {printable(report.unmatched[reason])}")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the job; return 0 done, 2 wrong input, 130 interrupted, 143 ended by SIGTERM."""
    return run(NAME, parse_arguments, index, arguments)


if __name__ == "__main__":
    sys.exit(main())
