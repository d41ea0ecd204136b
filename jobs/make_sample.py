"""Write a small archive of generated infrared and visible pairs.

python jobs/make_sample.py --output demo/archive --pairs 12 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.sample import write_sample_archive  # noqa: E402
from cluster.storage.urls import redact_url  # noqa: E402
from cluster.text.plain_text import one_line, printable  # noqa: E402


def main() -> int:
    """Parse the arguments, write the archive, say where it is; return the exit status."""
    parser = argparse.ArgumentParser(description="Write generated infrared and visible pairs.")
    parser.add_argument("--output", required=True, metavar="URL", help="folder or s3:// prefix")
    parser.add_argument("--pairs", type=int, default=12, metavar="N", help="how many (12)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="other seed, other scenes")
    arguments = parser.parse_args()
    try:
        report = write_sample_archive(arguments.output, arguments.pairs, arguments.seed)
    except (ValueError, OSError) as error:
        print(f"make_sample: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"{report.num_pairs} pairs, {report.num_written} files written")
    print(f"  infrared  {printable(redact_url(report.ir_url))}")
    print(f"  visible   {printable(redact_url(report.vis_url))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
