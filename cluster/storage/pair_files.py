"""The objects of one pair in the Zarr store, told from those of pairs whose groups lie below its group.

    fused/                      pixels, of a frame or a scene
    valid/                      flags of their data
    x/  y/  spatial_ref/        coordinates and CRS of a scene
    overviews/<reduction>/...   the same in smaller sizes
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.storage import objects, urls
from cluster.storage.objects import HALF_PUT, FileInfo

FUSED = "fused"
VALID = "valid"
OVERVIEWS = "overviews"
RESERVED_SEGMENTS = frozenset({FUSED, "c", "zarr.json"})
"""Names that no segment of a pair_id keeps."""
RESERVED_BELOW = RESERVED_SEGMENTS | {VALID, "x", "y", "spatial_ref", OVERVIEWS}
"""Names that no segment below another one keeps: what a pair's own group holds."""
LAYOUT = f"{FUSED}/c/.zarray"
"""Object of a pair that says how its pixels are cut into chunks: put before the first chunk, removed
after the last."""
_HALF = re.escape(HALF_PUT)
OWN = re.compile(
    rf"{_HALF}|{FUSED}/|({VALID}|x|y|spatial_ref)/(zarr\.json$|c$|c/|{_HALF})|{VALID}/[xy]/(\.z|0$|{_HALF})"
    rf"|{OVERVIEWS}/(zarr\.json$|{_HALF}|\d+/({FUSED}|{VALID}|x|y|spatial_ref|zarr\.json|{_HALF}))"
)
"""Paths below a pair's group that are its own, apart from the group's metadata."""
IMAGE_CHUNK = re.compile(rf"({OVERVIEWS}/\d+/)?({FUSED}|{VALID})/c/[\d/]+$")
"""Paths below a pair's group that are chunks of pixels or flags."""


def put_group(url: str, attributes: dict[str, Any]) -> None:
    """Put the metadata of a group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    objects.put_bytes(urls.join_url(url, "zarr.json"), json.dumps(document).encode())


def own_files(found: Iterable[FileInfo]) -> list[FileInfo]:
    """Return which files below a pair's group are the pair's, apart from the group's metadata.

    An older version gave groups of pairs the names of arrays: metadata without a chunk is not taken.
    """
    own = [file for file in found if OWN.match(file.path)]
    filled = {file.path.partition("/")[0] for file in own if not file.path.endswith("zarr.json")}
    return [file for file in own if file.path.partition("/")[0] in filled | {FUSED}]


def find_own_files(group_url: str) -> list[FileInfo]:
    """Return the files of a pair, apart from its group's metadata, without listing the pairs below."""
    found = []
    for name in sorted(RESERVED_BELOW - {"c", "zarr.json"}):
        for file in objects.find_files(urls.join_url(group_url, name)):
            found.append(FileInfo(f"{name}/{file.path}", file.url, file.size, file.etag))
    return own_files(found)


def remove(group_url: str, files: Iterable[FileInfo]) -> None:
    """Remove files of a pair: metadata first, so that nothing half removed is read, the layout last."""
    steps: list[list[FileInfo]] = [[], [], []]
    for file in files:
        steps[0 if file.path.endswith("zarr.json") else 2 if file.path == LAYOUT else 1].append(file)
    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        for step in steps:
            for _ in pool.map(lambda file: objects.delete(file.url), step):
                pass
    if not urls.is_remote(group_url):
        for name in RESERVED_BELOW:
            remove_empty_folders(urls.local_path(urls.join_url(group_url, name)))


def remove_empty_folders(path: str) -> None:
    """Remove a local folder, and those below it, as far as there is nothing in them."""
    for folder, _, _ in os.walk(path, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def make_room_for_frame(group_url: str, layout: bytes) -> None:
    """Remove an earlier result of a pair whose objects a frame would not all replace.

    Args:
        group_url: URL of the pair's group.
        layout: what the frame puts as LAYOUT.
    """
    try:
        earlier = json.loads(objects.read_bytes(urls.join_url(group_url, LAYOUT)))
        is_frame = earlier["chunks"] == earlier["shape"]
        fits = is_frame and len(earlier["shape"]) == len(json.loads(layout)["shape"])
    except FileNotFoundError:  # there is no earlier one, or one that an older version put
        fits = urls.is_remote(group_url) or not os.path.exists(
            urls.local_path(urls.join_url(group_url, FUSED))
        )
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        remove(group_url, find_own_files(group_url))
