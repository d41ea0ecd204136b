"""The images of a report: a small strip of a pair, and its three images at full resolution.

They lie in OUT/report/pictures/ and are named by pair, version and kind, so that a later report finds
those that are there already, and removes those that no pair of its page has.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cluster.archive.contact_sheet import draw_thumbnail
from cluster.archive.encoding import encode_image
from cluster.archive.pair_picture import Picture, read_fused, read_sources
from cluster.archive.sources.source import reduction
from cluster.storage import objects, urls
from cluster.text.plain_text import one_line
from cluster.text.progress import Progress
from cluster.text.run_log import RunLog

FOLDER = "pictures"
SIDES = ("ir", "vis", "fused")
MAX_SIDE = 2048
"""Longest side, in pixels, up to which a pair is shown at full resolution; larger ones are reduced."""
THUMBNAIL_SIDE = 640
"""Longest side, in pixels, to which a pair is reduced before its strip is drawn."""
QUALITY, THUMBNAIL_QUALITY = 92, 80
NUM_THREADS = 4
LARGE = 4_000_000
"""Number of pixels from which pairs are read one after the other, since they take much memory."""
NAME = re.compile(r"[0-9a-f]{20}(-ir|-vis|-fused|-csab)?\.jpg")
HEAT_MAPS = "-csab.jpg"
"""End of the name of a pair's heat maps."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """What images a report has of its pairs."""

    names: list[str]
    """Of the first pairs, the names of their strips; empty where none could be made."""
    reductions: list[int]
    """Of the first pairs with images, the whole number by which these are reduced; 0 for no images."""
    heat_maps: list[bool]
    """Of the first pairs with images, whether there are heat maps of them."""
    earlier: frozenset[str]
    """Files that an earlier report had left in the folder of pictures."""
    problems: list[str]
    """Why a picture is missing or lacks the sources; empty where nothing is."""


def write_pictures(
    rows: list[Row], output_url: str, opening: Row, num_images: int, log: RunLog | None = None
) -> Pictures:
    """Write the images of pairs that are not there yet.

    Args:
        rows: pairs, of which each gets a strip: see `Chosen.rows`.
        output_url: URL of the output, whose report they belong to.
        opening: the options of `open_pair`, as of the run that fused them.
        num_images: how many of the first rows get their images at full resolution too.
        log: log of the run that says how far this is.

    Raises:
        StorageError: an image can't be written.
    """
    folder_url = urls.join_url(output_url, "report", FOLDER)
    there = {file.path for file in objects.find_files(folder_url)}

    def write(place: int) -> str:
        return _write(rows[place], output_url, opening, place < num_images, there)

    places = range(len(rows))
    large = [p for p in places if (rows[p]["height"] or 0) * (rows[p]["width"] or 0) > LARGE]
    small = sorted(set(places) - set(large))
    problems = dict.fromkeys(places, "")
    with Progress(len(rows), "pairs to draw", log) as progress:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for place, problem in zip(small, pool.map(write, small), strict=True):
                problems[place] = problem
                progress.add()
        for place in large:
            problems[place] = write(place)
            progress.add()
    names = [name_of(row) for row in rows]
    made = {file.path for file in objects.find_files(folder_url)}
    reductions = [
        reduction(int(row["height"]), int(row["width"]), MAX_SIDE) if f"{name}-fused.jpg" in made else 0
        for row, name in zip(rows[:num_images], names, strict=False)
    ]
    return Pictures(
        [f"{name}.jpg" if f"{name}.jpg" in made else "" for name in names],
        reductions,
        [f"{name}{HEAT_MAPS}" in made for name in names[:num_images]],
        frozenset(there),
        [problems[place] for place in places],
    )


def remove_others(output_url: str, earlier: Iterable[str], rows: Iterable[Row]) -> None:
    """Remove those of an earlier report's images that belong to none of these pairs.

    Only what was there before this report began: another one that is made meanwhile keeps its images.
    """
    kept = {name_of(row) for row in rows}
    for name in earlier:
        if NAME.fullmatch(name) and name[:20] not in kept:
            objects.delete(urls.join_url(output_url, "report", FOLDER, name))


def name_of(row: Row) -> str:
    """Return what the images of a pair's present version are named: nobody can guess or forge it."""
    version = f"{row['pair_id']}\0{row['recorded_at']}\0{row['zarr_path']}\0{row.get('fingerprint')}"
    return sha256(version.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _write(row: Row, output_url: str, opening: Row, has_images: bool, there: set[str]) -> str:
    """Write what is missing of a pair's images; return why it can't be whole, or an empty text."""
    name = name_of(row)
    if f"{name}.jpg" in there and (not has_images or f"{name}-fused.jpg" in there):
        return ""
    max_side = MAX_SIDE if has_images else THUMBNAIL_SIDE
    store_url = urls.join_url(output_url, "fused.zarr")
    problem, max_pixels = "", opening["max_pixels"]
    try:
        fused = read_fused(store_url, row["zarr_path"], max_side=max_side, max_pixels=max_pixels)
    except Exception as error:  # one bad pair must not end the report on a million
        return f"no fused image: {one_line(error)[:300]}"
    images: dict[str, Picture] = {}
    try:
        sources = read_sources(row, max_side=max_side, **opening)
        images.update(zip(SIDES, sources, strict=False))
    except Exception as error:  # a source went away, or its URL was stored without its secret
        problem = f"sources not shown: {one_line(error)[:300]}"
    images["fused"] = fused
    folder_url = urls.join_url(output_url, "report", FOLDER)
    buffer = io.BytesIO()
    draw_thumbnail(list(images.values())).save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    if has_images and not problem:
        for side, image in images.items():
            data = encode_image(image, "jpeg", QUALITY)
            objects.put_bytes(urls.join_url(folder_url, f"{name}-{side}.jpg"), data)
    objects.put_bytes(urls.join_url(folder_url, f"{name}.jpg"), buffer.getvalue())
    return problem
