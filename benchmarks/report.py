"""How long a report on a large archive takes, and how large its page is.

    python benchmarks/report.py --pairs 1000000

makes metrics, rejected pairs and a ledger of that many pairs, without any image, and writes the report on
them. What it prints is all of the report but its pictures.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.fusing.ledger import COLUMNS, ROWS_PER_PART
from cluster.reporting.config import ReportConfig
from cluster.reporting.job import write_report
from cluster.storage import objects
from cluster.storage.tables import SQL_TYPES, Database, quoted
from dmnet_core.metrics import METRICS

PAIR_ID = "'camera-' || (i % 7) || '/2026-10-' || lpad((1 + i % 28)::varchar, 2, '0') || '/' || i"
CONSTANTS = {
    "height": "512", "width": "640", "bands": "1", "dtype": "'uint8'", "num_windows": "1",
    "ir_low": "0.0", "ir_high": "255.0", "vis_low": "0.0", "vis_high": "255.0", "source_note": "''",
    "grid": "'identity'", "crs": "'EPSG:32632'",
    "transform": "'10.0 0.0 ' || (400000 + i % 1000) || ' 0.0 -10.0 ' || (5000000 + i // 1000)",
    "fingerprint": "'f'",
}  # fmt: skip


def write_tables(url, num_pairs):
    """Write the tables of an output of so many pairs."""
    metrics = [f"sqrt(random()) * {place + 1} as {quoted(name)}" for place, name in enumerate(METRICS)]
    others = [f"{value} as {name}" for name, value in CONSTANTS.items()]
    carried = [
        "'camera ' || (i % 7) as camera",
        "timestamp '2026-10-01' + to_hours((i % 672)::int) as taken",
        "20 * random() as temperature",
    ]
    files = [f"'s3://archive/{side}/' || {PAIR_ID} || '.png' as {side}_url" for side in ("ir", "vis")]
    measured = ["random() as valid_share", "random() as seconds"]
    selected = ", ".join([*metrics, *measured, *others, *files, *carried])
    nothing = {"str": "''", "int64": "0", "float64": "null"}
    of_ledger = {name: nothing[kind] for name, kind in COLUMNS.items()} | {
        "pair_id": PAIR_ID, "status": "'fused'",
        "run_id": f"'20261001T000000Z-00000' || i * 9 // {num_pairs}",
        "recorded_at": "1.7e9 + i",
    }  # fmt: skip
    ledger = ", ".join(
        f"({of_ledger[name]})::{SQL_TYPES[kind]} as {quoted(name)}" for name, kind in COLUMNS.items()
    )
    with Database() as database:
        source = f"from range({num_pairs}) t(i)"
        database.write(
            f"select {PAIR_ID} as pair_id, {PAIR_ID} as zarr_path, {selected} {source}",
            f"{url}/metrics.parquet/part-000000.parquet",
        )
        database.write(
            "select 'bad/' || i as pair_id, 'truncated' as reason, 'ends early' as detail "
            f"from range({num_pairs // 100}) t(i)",
            f"{url}/rejected.parquet/part-000000.parquet",
        )
        for _ in database.write_blocks(
            f"select {ledger} {source}", f"{url}/ledger/part-a", ROWS_PER_PART
        ):
            pass
    for number in range(9):
        run_id = f"20261001T000000Z-00000{number}"
        record = {
            "run_id": run_id, "exit_reason": "finished", "seconds": 3600.0 + number, "config": {},
            "counts": {"num_left": 0}, "did": {"fused": num_pairs // 9, "rejected": 0, "megapixels": 1.0},
        }  # fmt: skip
        objects.put_bytes(f"{url}/runs/{run_id}.json", json.dumps(record).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument(
        "--output", help="folder that keeps the tables and the page; a temporary one if unset"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.output or folder
        start = time.monotonic()
        write_tables(url, arguments.pairs)
        print(f"{arguments.pairs} pairs, tables made in {time.monotonic() - start:.0f} s")
        start, cpu = time.monotonic(), time.process_time()
        written = write_report(ReportConfig(output_url=url, num_thumbnails=0))
        print(
            f"report: {time.monotonic() - start:.1f} s, {time.process_time() - cpu:.1f} s of CPU, "
            f"{written.num_bytes / 1e6:.2f} MB, {written.num_shown} pairs on the page, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB of memory at most"
        )


if __name__ == "__main__":
    main()
