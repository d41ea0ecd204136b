"""Outputs of fuse_archive that are made without it: real images in a real store, with tables beside."""

import json

import numpy as np
import pandas as pd

from cluster.archive.encoding import encode_image
from cluster.fusing.ledger import COLUMNS
from cluster.storage import fused_store, objects, tables, urls
from dmnet_core.metrics import METRICS
from dmnet_core.synthetic import render_scene

RUNS = ("20261001T010000Z-aaaaaa", "20261002T010000Z-bbbbbb")


def metric_values(number, seed=0):
    """Return the metrics of so many pairs, which differ from each other."""
    random = np.random.default_rng(seed)
    return {name: random.normal(2 + place, 0.5, number) for place, name in enumerate(METRICS)}


def write_output(url, pair_ids, *, carried=None, rejected=(), height=96, width=128, places=None):
    """Write an output whose fused images are means of both sides.

    Args:
        url: URL of the output.
        pair_ids: names of its pairs.
        carried: further columns of the metrics, each with a value a pair.
        rejected: (pair_id, reason, detail) of rejected pairs.
        height: of every image, in pixels.
        width: of every image, in pixels.
        places: (crs, transform) of each pair; None for none on the earth.
    """
    store, rows = urls.join_url(url, "fused.zarr"), []
    fused_store.create_store(store, {})
    for number, pair_id in enumerate(pair_ids):
        ir, vis = render_scene("aerial", number, height, width)
        zarr_path = fused_store.escape_pair_id(pair_id)
        row = {"pair_id": pair_id, "zarr_path": zarr_path}
        for side, image in (("ir", ir), ("vis", vis)):
            row[f"{side}_url"] = urls.join_url(url, "sources", f"{number}-{side}.png")
            objects.put_bytes(row[f"{side}_url"], encode_image(image, "png", 0))
        grey = vis if vis.ndim == 2 else vis.mean(axis=2)
        fused_store.write_fused(store, zarr_path, ((ir.astype(float) + grey) / 2).astype(np.uint8), {})
        rows.append(row)
    write_tables(url, rows, carried=carried, rejected=rejected, size=(height, width), places=places)


def write_tables(url, rows, *, carried=None, rejected=(), size=(96, 128), places=None):
    """Write the tables and the run records of an output; `rows` have pair_id, zarr_path and both URLs."""
    number = len(rows)
    places = places or [("", "")] * number
    crs, transform = [crs for crs, _ in places], [transform for _, transform in places]
    common = {
        "height": size[0], "width": size[1], "bands": 1, "dtype": "uint8", "num_windows": 1,
        "valid_share": 0.9, "ir_low": 0.0, "ir_high": 255.0, "vis_low": 0.0, "vis_high": 255.0,
        "source_note": "", "grid": "identity", "crs": crs, "transform": transform, "seconds": 0.2,
        "fingerprint": "f",
    }  # fmt: skip
    columns = ["pair_id", "zarr_path", "ir_url", "vis_url"]
    named = pd.DataFrame(rows, columns=columns).astype("string")
    metrics = named.assign(**(common | metric_values(number) | (carried or {})))
    tables.write_table(urls.join_url(url, "metrics.parquet/part-000000.parquet"), metrics)
    rejects = pd.DataFrame(rejected, columns=["pair_id", "reason", "detail"]).astype("string")
    tables.write_table(urls.join_url(url, "rejected.parquet/part-000000.parquet"), rejects)
    nothing = {"str": "", "int64": -1, "float64": None}
    blank = {name: nothing[kind] for name, kind in COLUMNS.items()}
    ledger = [
        blank | {"pair_id": row["pair_id"], "window": 0, "status": "fused", "recorded_at": 1e9 + place,
                 "run_id": RUNS[place % 2]}
        for place, row in enumerate(rows)
    ]  # fmt: skip
    tables.write_rows(urls.join_url(url, "ledger/part-0.parquet"), ledger, COLUMNS)
    for place, run_id in enumerate(RUNS):
        record = {
            "run_id": run_id, "exit_reason": "finished", "seconds": 60.0 * (place + 1),
            "counts": {"num_left": 0}, "config": {"max_pixels": 1_000_000},
            "did": {"fused": number // 2, "rejected": len(rejected), "megapixels": 0.1},
        }  # fmt: skip
        objects.put_bytes(urls.join_url(url, f"runs/{run_id}.json"), json.dumps(record).encode())
