"""Step 1 of 3: the pixels of one window, read and decoded. No Ray and no PyTorch here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cluster.archive.pair import OpenPair, open_pair
from cluster.archive.reasons import BadImage, BadPair
from cluster.archive.sources.source import Window as Part
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.rows import FRAME, SCENE, WINDOW, Row, crashed, pack_image, pack_place
from cluster.storage import fused_store
from dmnet_core.window import Window, count_windows, is_scene, window_at


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How the files of a pair are opened, and how it is cut into windows."""

    max_pixels: int
    """Largest image that is decoded whole, in pixels."""
    window: int
    """Side of the windows of a scene, in pixels."""
    halo: int
    """Pixels around a window with which it is fused."""
    temperatures: bool = False
    """Whether a radiometric infrared file gives its temperatures."""
    resample: bool = False
    """Whether an infrared image of another size but the same shape is scaled."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of `open_pair`."""
        return {
            "max_pixels": self.max_pixels,
            "temperatures": self.temperatures,
            "resample": self.resample,
        }


def read_window(row: Row, *, opening: Opening, attempts: Attempts | None = None) -> Row:
    """Step 1 of 3: add the pixels of one window to its row.

    A pair that ended its process MAX_ATTEMPTS times while it was read is rejected as `crashed`.

    In:  pair_id, ir_url, vis_url (str), and the other columns by which `open_pair` reads a pair; window
         (int): 0 for a whole pair, else the number of the window of a scene, with the columns of its
         survey; and further ones; all are passed on.
    Out: the same row plus
         task                   frame, scene (which has no pixels yet: it is to be surveyed) or window
         zarr_path              group of the pair below the store
         ir, vis                the pixels' bytes, empty where reason is set
         ir_shape, vis_shape    "H W" or "H W 3"
         ir_dtype, vis_dtype    uint8, uint16 or float32
         ir_valid, vis_valid    bytes of bool, where the file has data; empty where it has everywhere;
                                with columns of shape and type as the pixels have
         ir_digest, vis_digest  of the bytes of both files, empty where these were not read whole
         num_windows            number of the pair's windows
         grid                   how the two images come together: see `Grid.kind`
         crs, crs_code          coordinate reference system of the visible image, WKT and "EPSG:n"; empty
                                where it has none
         transform              its six numbers in a text, empty where it has none
         source_version         what the store calls the versions of both files, and of a scene after a
                                space the digest of those of the files that these name
         source_note            what a user should know about the pixels, often empty
         reason, detail         "" or why the pair is rejected
         read_bytes, read_s     bytes of both files that were read, seconds
    """
    start = time.perf_counter()
    attempts = attempts or AttemptCounts()
    key = f"read {row['pair_id']} {row['window']}"
    found = _nothing()
    if attempts.begin([key])[0] >= MAX_ATTEMPTS:
        found |= {"reason": "crashed", "detail": crashed("read")}
    else:
        try:
            with open_pair(row, **opening.options) as pair:
                found |= _read(row, pair, opening)
        except BadPair as error:
            found |= {"reason": error.reason, "detail": error.detail, "read_bytes": error.num_bytes}
    attempts.end([key])
    return {
        **row,
        **found,
        "zarr_path": fused_store.escape_pair_id(row["pair_id"]),
        "read_s": time.perf_counter() - start,
    }


def version_of(pair: OpenPair) -> str:
    """Return what the store calls the versions of both files of a pair."""
    return f"{pair.grid.ir.etag} {pair.grid.vis.etag}"


def check_version(pair: OpenPair, row: Row, *, with_parts: bool = False) -> None:
    """Raise BadPair where the files are others than those that a scene's row was made of.

    Args:
        pair: the pair as it is now.
        row: with the scene's `source_version`.
        with_parts: whether the TIFFs that a VRT names and the objects of a Zarr array are looked at too,
            each by the store's answer to a request: once at the end of a scene, not for every window.
    """
    versions, _, parts = row["source_version"].rpartition(" ")
    if version_of(pair) != versions:
        replaced = "a file"
    elif with_parts and pair.grid.parts_version() != parts:
        replaced = "a file that a VRT names, or an object of a Zarr array,"
    else:
        return
    detail = (
        f"{replaced} was replaced while the scene was fused, expected one version of it: run the same "
        "command again when nothing writes there"
    )
    raise BadPair("", BadImage("failed", detail), pair.num_bytes)


def part_of(window: Window) -> Part:
    """Return the pixels to read of a window, with its halo."""
    rows, columns = window.rows, window.columns
    return Part(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)


def _nothing() -> Row:
    """Return the columns of a pair without pixels."""
    images = ("ir", "vis", "ir_valid", "vis_valid")
    texts = ("ir_digest", "vis_digest", "grid", "source_version", "source_note", "reason", "detail")
    empty = {name: value for image in images for name, value in pack_image(image, None).items()}
    nothing = {"task": FRAME, "num_windows": 1, "read_bytes": 0}
    return empty | dict.fromkeys(texts, "") | nothing | pack_place("", "", None)


def _read(row: Row, pair: OpenPair, opening: Opening) -> Row:
    """Return the columns of what was found: those of `_nothing`, filled."""
    found: Row = {
        "grid": pair.grid.kind,
        **pack_place(pair.crs, pair.crs_code, pair.transform),
    }
    height, width = pair.grid.height, pair.grid.width
    if row["window"] > 0:
        check_version(pair, row)
        window = window_at(height, width, opening.window, opening.halo, row["window"] - 1)
        images = pair.read(part_of(window))
        kept = ("num_windows", "source_version")
        found |= {"task": WINDOW, **{name: row[name] for name in kept}}
    elif is_scene(height, width, opening.window):
        number = count_windows(height, width, opening.window)
        # before any pixel of the scene is read
        version = f"{version_of(pair)} {pair.grid.parts_version()}"
        return found | {
            "task": SCENE, "num_windows": number, "source_version": version, "source_note": pair.note
        }  # fmt: skip
    else:
        images = pair.read()
    return found | {
        **pack_image("ir", images.ir.pixels),
        **pack_image("vis", images.vis.pixels),
        **pack_image("ir_valid", images.ir.valid),
        **pack_image("vis_valid", images.vis.valid),
        "ir_digest": images.ir_digest,
        "vis_digest": images.vis_digest,
        "source_note": images.note,
        "read_bytes": images.num_bytes,
    }
