"""The step of an export: the fused image of one pair, written as an image file.

A plain function on rows, without Ray and without PyTorch. One row goes in and one comes out; an error
becomes the reason and the detail of its row.
"""

from __future__ import annotations

from typing import Any

from cluster.archive.encoding import encode_image
from cluster.archive.reasons import explain
from cluster.storage import fused_store, objects, urls

Row = dict[str, Any]


def export_pair(row: Row, *, store_url: str, output_url: str, image_format: str, quality: int) -> Row:
    """Write the fused image of one pair as one whole file.

    In:  pair_id, zarr_path, file (path of the image below output_url).
    Out: the row plus num_bytes (size of the file), reason and detail (empty where it was written).
    The file is put in one request, so the step may run twice.
    """
    try:
        pixels = fused_store.read_fused(store_url, row["zarr_path"])
    except FileNotFoundError:
        detail = "no fused image in the store, expected one: run fuse_archive with --verify, then export"
        return {**row, "num_bytes": 0, "reason": "missing_file", "detail": detail}
    except Exception as error:  # the edge of the step: one bad pair must not end the run of a million
        reason, detail = explain(error)
        return {**row, "num_bytes": 0, "reason": reason, "detail": f"fused: {detail}"}
    try:
        data = encode_image(pixels, image_format, quality)
        objects.put_bytes(urls.join_url(output_url, row["file"]), data)
    except Exception as error:
        reason, detail = explain(error)
        return {**row, "num_bytes": 0, "reason": reason, "detail": f"export: {detail}"}
    return {**row, "num_bytes": len(data), "reason": "", "detail": ""}
