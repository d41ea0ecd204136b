"""The step of an export: the fused image of one pair, written as an image file.

A plain function on rows, without Ray and without PyTorch. One row goes in and one comes out; an error
becomes the reason and the detail of its row.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.archive.encoding import encode_image
from cluster.archive.reasons import BadImage, explain
from cluster.archive.sources.image import check_pixels
from cluster.archive.sources.zarr_array import FUSED, ZarrSource, open_zarr
from cluster.storage import fused_store, objects, urls

Row = dict[str, Any]


def export_pair(
    row: Row, *, store_url: str, output_url: str, image_format: str, quality: int, max_pixels: int
) -> Row:
    """Write the fused image of one pair as one whole file.

    In:  pair_id, zarr_path, height and width (int, pixels), file (path of the image below output_url).
    Out: the row plus num_bytes (size of the file), reason and detail (empty where it was written).
    The file is put whole, so the step may run twice. A COG is written by windows, of which no chunk may
    have more than max_pixels; an image of another format is held whole, and may not have more itself.
    """
    image: ZarrSource | NDArray[np.generic]
    try:
        if image_format == "cog":
            image = _open(store_url, row["zarr_path"], max_pixels)
        else:
            check_pixels(row["width"], row["height"], max_pixels)
            image = fused_store.read_fused(store_url, row["zarr_path"], max_pixels=max_pixels)
    except FileNotFoundError:
        detail = "no fused image in the store, expected one: run fuse_archive with --verify, then export"
        return {**row, "num_bytes": 0, "reason": "missing_file", "detail": detail}
    except Exception as error:  # the edge of the step: one bad pair must not end the run of a million
        reason, detail = explain(error)
        if reason == "too_many_pixels" and image_format != "cog":
            detail += ", or give --format cog"
        return {**row, "num_bytes": 0, "reason": reason, "detail": f"fused: {detail}"}
    url = urls.join_url(output_url, row["file"])
    try:
        if isinstance(image, ZarrSource):
            num_bytes = _put_cog(image, url)
        else:
            data = encode_image(image, image_format, quality)
            objects.put_bytes(url, data)
            num_bytes = len(data)
    except Exception as error:
        reason, detail = explain(error)
        return {**row, "num_bytes": 0, "reason": reason, "detail": f"export: {detail}"}
    return {**row, "num_bytes": num_bytes, "reason": "", "detail": ""}


def _open(store_url: str, zarr_path: str, max_pixels: int) -> ZarrSource:
    """Open the fused image of a pair, of which every chunk is there.

    Raises:
        FileNotFoundError: there is none.
        BadImage: it lacks chunks, or one has more than max_pixels.
        StorageError: it can't be read.
    """
    url = urls.join_url(store_url, zarr_path, FUSED)
    source = open_zarr(url, max_pixels=max_pixels, bands=None)
    if source is None:
        raise FileNotFoundError(url)
    for array in (source.array, source.valid):
        if array and (missing := array.num_missing()):
            raise BadImage(
                "missing_file",
                f"the array {array.url.rpartition('/')[2]!r} lacks {missing} of its chunks, expected "
                "all in the store: run fuse_archive with --verify, then export",
            )
    return source


def _put_cog(source: ZarrSource, url: str) -> int:
    """Write an image as a COG, put it, and return its size in bytes."""
    from cluster.archive.cog import write_cog  # GDAL takes half a second: only where it is needed

    with objects.file_to_put(url) as path:
        write_cog(source, path)
        return os.path.getsize(path)
