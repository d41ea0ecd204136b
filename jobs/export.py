"""Exports fused images as PNG, JPEG, TIFF or COG files: python jobs/export.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.exporting.config import ExportConfig  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.job_main import ON_RAY, parse_config, run  # noqa: E402
from cluster.text.plain_text import printable  # noqa: E402

NAME = "export"
DESCRIPTION = (
    "Export fused images of an output of fuse_archive as PNG, JPEG, TIFF or Cloud Optimized GeoTIFF "
    "files. The same command run again goes on: it writes only images that are not there or whose pair "
    f"was fused again. {ON_RAY}"
)


def parse_arguments(arguments: list[str] | None = None) -> ExportConfig:
    """Return the config of a command line; exit with 2 and one line where it is wrong."""
    return parse_config(NAME, DESCRIPTION, ExportConfig, arguments)


def export_images(config: ExportConfig) -> str:
    """Export and print the counts; return why that must not count as a success, or an empty text."""
    from cluster.exporting.job import export  # takes a second: not before the options are checked

    done = export(config)
    print(
        f"{done.num_chosen} pairs chosen: {done.num_exported} exported, {done.num_skipped} up to date "
        f"from before, {done.num_failed} failed"
    )
    print(f"  images  {printable(redact_url(config.output_url))}")
    return done.problem


def main(arguments: list[str] | None = None) -> int:
    """Run the job; return 0 done, 1 a pair was not exported, 2 wrong input, 130 interrupted."""
    return run(NAME, parse_arguments, export_images, arguments)


if __name__ == "__main__":
    sys.exit(main())
