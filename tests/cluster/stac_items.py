"""STAC items of fused pairs for tests."""

import math
from datetime import UTC, datetime

from rasterio.crs import CRS

from cluster.archive.stac_item import stac_item

FUSED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
UTM = CRS.from_epsg(32632).to_wkt()
SQUARE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def fused_item(pair_id="a/b", **changed):
    given = {
        "zarr_path": pair_id, "store_url": "/out/fused.zarr", "crs": "EPSG:32632", "transform": SQUARE,
        "height": 100, "width": 100, "num_bands": 3, "dtype": "uint8", "valid_share": 0.75,
        "ir_url": "s3://b/ir.tif", "vis_url": "s3://b/vis.tif", "moment": "2020-05-01T10:00:00Z",
        "fused_at": FUSED_AT, "metrics": {"SF": 1.5, "VIF": math.nan}, "fingerprint": "f00d",
    }  # fmt: skip
    return stac_item(pair_id, **(given | changed))
