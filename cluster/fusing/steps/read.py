"""Step 1 of 3: the pixels of one window, read and decoded. No Ray and no PyTorch here."""

from __future__ import annotations

import time

from cluster.archive.pair import PairImages, read_images
from cluster.archive.reasons import BadPair
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.rows import Row, crashed, pack_image
from cluster.storage import fused_store


def read_window(
    row: Row,
    *,
    max_pixels: int,
    temperatures: bool = False,
    resample: bool = False,
    attempts: Attempts | None = None,
) -> Row:
    """Step 1 of 3: add the pixels of one window to its row.

    A pair that ended its process MAX_ATTEMPTS times while it was read is rejected as `crashed`.

    In:  pair_id, ir_url, vis_url (str), the other columns by which `open_pair` reads a pair, and further
         ones; all are passed on.
    Out: the same row plus
         zarr_path              group of the pair below the store
         ir, vis                the pixels' bytes, empty where reason is set
         ir_shape, vis_shape    "H W" or "H W 3"
         ir_dtype, vis_dtype    uint8, uint16 or float32
         ir_valid, vis_valid    bytes of bool, where the file has data; empty where it has everywhere;
                                with columns of shape and type as the pixels have
         ir_digest, vis_digest  of the bytes of both files, empty where reason is set and of files that
                                were read by windows
         grid                   how both were brought together, empty where reason is set
         source_note            what a user should know about the pixels, often empty
         reason, detail         "" or why the pair is rejected
         read_bytes, read_s     bytes of both files that were read, seconds
    """
    start = time.perf_counter()
    attempts = attempts or AttemptCounts()
    key = f"read {row['pair_id']}"
    images: PairImages | None = None
    reason, detail, read_bytes = "", "", 0
    if attempts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", crashed("read")
    else:
        try:
            images = read_images(
                row, max_pixels=max_pixels, temperatures=temperatures, resample=resample
            )
            read_bytes = images.num_bytes
        except BadPair as error:
            reason, detail, read_bytes = error.reason, error.detail, error.num_bytes
    attempts.end([key])
    return {
        **row,
        "zarr_path": fused_store.escape_pair_id(row["pair_id"]),
        **pack_image("ir", images.ir.pixels if images else None),
        **pack_image("vis", images.vis.pixels if images else None),
        **pack_image("ir_valid", images.ir.valid if images else None),
        **pack_image("vis_valid", images.vis.valid if images else None),
        "ir_digest": images.ir_digest if images else "",
        "vis_digest": images.vis_digest if images else "",
        "grid": images.grid if images else "",
        "source_note": images.note if images else "",
        "reason": reason,
        "detail": detail,
        "read_bytes": read_bytes,
        "read_s": time.perf_counter() - start,
    }
