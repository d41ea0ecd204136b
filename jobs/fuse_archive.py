"""Fuses an archive of infrared and visible pairs: python jobs/fuse_archive.py --help."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.fusing.config import DEVICES, LOG_FORMATS, OUTPUT_DTYPES, PRECISIONS, FuseConfig  # noqa: E402
from cluster.fusing.job import fuse_archive  # noqa: E402
from cluster.fusing.lease import LeaseHeld  # noqa: E402
from cluster.text.plain_text import one_line  # noqa: E402


def parse_arguments(arguments: list[str] | None = None) -> FuseConfig:
    """Return the config of a command line; exits with 2 and one line where it is wrong."""
    parser = argparse.ArgumentParser(
        description="Fuse an archive of paired infrared and visible images. Run again, it goes on: "
        "only pairs that are new or changed are fused."
    )
    add = parser.add_argument
    add("--index", metavar="URL", help="pair index, Parquet or CSV; or give --ir and --vis")
    add("--ir", metavar="URL", help="folder or s3:// prefix of the infrared images")
    add("--vis", metavar="URL", help="folder or s3:// prefix of the visible images")
    add("--output", metavar="URL", required=True, help="folder or s3:// prefix of all results")
    add("--checkpoint", metavar="URL", help=".safetensors weights; default: the shipped ones")
    add("--actors", type=int, default=1, metavar="N", help="actors that hold the network (1)")
    add("--gpus-per-actor", type=float, default=0.0, metavar="X", help="0 runs on the CPU (0)")
    add("--cpus-per-actor", type=int, default=2, metavar="N", help="CPU threads of each actor (2)")
    add("--device", choices=DEVICES, default="auto",
        help="cpu runs on the CPU though GPUs are reserved, to try a cluster (auto)")  # fmt: skip
    add("--batch-size", type=int, default=4, metavar="N",
        help="pairs of one size that a GPU takes at once (4)")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="fp32", help="the halves need GPUs (fp32)")
    add("--limit", type=int, metavar="N", help="only the first N pairs")
    add("--partition", type=_partition, metavar="K/N",
        help="only the K-th of N parts of the pairs; runs over others may go on beside it")  # fmt: skip
    add("--range", default="auto", metavar="POLICY",
        help="source values to [0, 1]: auto, dtype, minmax, percentile or LOW:HIGH (auto)")  # fmt: skip
    add("--dtype", choices=OUTPUT_DTYPES, default="uint8", help="of the fused arrays (uint8)")
    add("--max-pixels", type=int, default=FuseConfig.max_pixels, metavar="N",
        help="larger images are rejected from their header (%(default)s)")  # fmt: skip
    add("--max-rejected", type=float, default=1.0, metavar="SHARE",
        help="exit 1 where more than this share of the pairs was rejected (1.0)")  # fmt: skip
    add("--reprocess", action="store_true",
        help="fuse again what other settings had made, and try rejected pairs again")  # fmt: skip
    add("--prune", action="store_true", help="remove results of pairs that left the index")
    add("--verify", action="store_true",
        help="list the store first, and fuse again what it lacks of what the ledger holds")  # fmt: skip
    add("--wait", action="store_true", help="wait for another run that writes the same output")
    add("--dry-run", action="store_true", help="print what would be done and stop")
    add("--log-format", choices=LOG_FORMATS, default="text", help="json: one object a line (text)")
    add("--ray-address", metavar="HOST:PORT",
        help="Ray cluster to join; default: RAY_ADDRESS, or a local Ray")  # fmt: skip
    given = parser.parse_args(arguments)
    renamed = {
        "output_url": "output", "index_url": "index", "ir_url": "ir", "vis_url": "vis",
        "checkpoint_url": "checkpoint", "num_actors": "actors", "range_policy": "range",
        "output_dtype": "dtype",
    }  # fmt: skip
    values = {name: getattr(given, flag) for name, flag in renamed.items()}
    same = {name: value for name, value in vars(given).items() if name not in renamed.values()}
    try:
        return FuseConfig(**values, **same)
    except ValueError as error:
        parser.error(one_line(error))


def _partition(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


def main() -> int:
    """Run the job.

    Exits 0 done; 1 a pair is unaccounted for or too many were rejected; 2 wrong input or failing
    storage; 3 another run holds the output; 130 interrupted.
    """
    config = parse_arguments()
    try:
        summary = fuse_archive(config)
    except LeaseHeld as error:
        print(f"fuse_archive: {one_line(error)}", file=sys.stderr)
        return 3
    except (ValueError, OSError) as error:
        print(f"fuse_archive: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fuse_archive: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    if summary.problem:
        print(f"fuse_archive: {one_line(summary.problem)}", file=sys.stderr)
    return 1 if summary.problem else 0


if __name__ == "__main__":
    sys.exit(main())
