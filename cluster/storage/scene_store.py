"""Scenes in the Zarr store of fused images: arrays of one chunk a window, and smaller sizes of them.

    <pair>/zarr.json             group with the attributes of the pair; put last, by `finish_scene`
    <pair>/fused/zarr.json       the image in Zarr v3: (y, x) or (band, y, x); put just before the group
    <pair>/fused/c/[0/]<row>/<column>   one window; those at the right and lower borders are filled with 0
    <pair>/fused/c/.zarray, .zattrs     the same chunks as an array of Zarr v2, for GDAL
    <pair>/fused/x/, y/          its coordinates in Zarr v2, of which GDAL takes the geotransform
    <pair>/valid/...             the same for the mask (y, x) of pixels with data, 0 or 1
    <pair>/x/, y/, spatial_ref/  coordinates of pixel centres and CRS, where the scene has a CRS
    <pair>/overviews/2/...       the same with half of the rows and columns; then 4, 8 and so on

A window is one object of each array, put whole by one task, so no two tasks ever write one object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.storage import objects, pair_files, urls
from cluster.storage.array_objects import encode_chunk, put_all, read_array
from cluster.storage.pair_files import FUSED, IMAGE_CHUNK, LAYOUT, OVERVIEWS, VALID
from cluster.storage.scene_layout import SceneLayout
from cluster.storage.scene_metadata import image_metadata, scene_objects
from dmnet_core.reading import overview_of

__all__ = [
    "STATISTICS",
    "SURVEY",
    "SceneLayout",
    "create_scene",
    "finish_scene",
    "read_scene_window",
    "survey_url",
    "write_overviews",
    "write_scene_window",
]
STATISTICS = "statistics"
"""Folder beside the store that holds the surveys of its scenes."""
SURVEY = ".safetensors"
"""End of the name of a survey."""
LAST = (f"{FUSED}/zarr.json", "zarr.json")
"""Objects without which a scene can't be opened as one, in the order in which they are put."""


def survey_url(statistics_url: str, zarr_path: str) -> str:
    """Return where the survey of a scene is; no folder of another pair has its name."""
    folders = zarr_path.replace(f"{SURVEY}/", f"%2E{SURVEY[1:]}/")
    return urls.join_url(statistics_url, f"{folders}{SURVEY}")


def create_scene(store_url: str, zarr_path: str, layout: SceneLayout) -> None:
    """Make room for a scene, and put everything but its windows and what makes it look complete.

    Chunks of an earlier result of the pair stay where they are chunks of the very same layout (another
    attempt at this scene may have put them), and are removed otherwise.

    Args:
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        layout: the arrays of the scene.
    """
    group_url = urls.join_url(store_url, zarr_path)
    encoded = scene_objects(layout, {})
    if objects.exists(urls.join_url(group_url, LAST[1])):
        pair_files.put_group(group_url, {})  # other pairs may lie below it
    for key in LAST:
        del encoded[key]
    try:
        is_same = objects.read_bytes(urls.join_url(group_url, LAYOUT)) == encoded[LAYOUT]
    except FileNotFoundError:
        is_same = False
    kept = encoded.keys() - ({} if is_same else {LAYOUT})  # it goes last, and is put again below
    stale = [
        file
        for file in pair_files.find_own_files(group_url)
        if file.path not in kept and not (is_same and IMAGE_CHUNK.fullmatch(file.path))
    ]
    pair_files.remove(group_url, stale)
    metadata = {key: value for key, value in encoded.items() if key.endswith("zarr.json")}
    put_all(group_url, {LAYOUT: encoded[LAYOUT]})
    put_all(group_url, {key: value for key, value in encoded.items() if key not in metadata})
    put_all(group_url, metadata)


def write_scene_window(
    store_url: str,
    zarr_path: str,
    layout: SceneLayout,
    row: int,
    column: int,
    pixels: NDArray[np.generic],
    valid: NDArray[np.bool_] | None,
) -> int:
    """Put the chunks of one window, zeros too, and return the bytes stored; the flags come first.

    Args:
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        layout: the arrays of the scene.
        row: row of the window, counted in windows.
        column: column of the window, counted in windows.
        pixels: (H, W) or (H, W, bands) of the window's size in the layout's type.
        valid: (H, W), False where a pixel stands for no data; None where all stand for data.
    """
    height, width = layout.window_size(row, column)
    shape = (height, width, layout.bands)[: 2 + (layout.bands > 1)]
    assert pixels.shape == shape and pixels.dtype == layout.pixel_type, (pixels.shape, pixels.dtype)
    values = np.zeros(layout.chunks, layout.pixel_type)
    values[..., :height, :width] = pixels if layout.bands == 1 else np.moveaxis(pixels, 2, 0)
    flags = np.zeros((layout.window, layout.window), np.uint8)
    flags[:height, :width] = 1 if valid is None else valid
    group_url = urls.join_url(store_url, zarr_path)
    below = f"{row}/{column}"
    num_bytes = 0
    for key, chunk in (
        (f"{VALID}/c/{below}", flags),
        (f"{FUSED}/c/{below if layout.bands == 1 else f'0/{below}'}", values),
    ):
        data = encode_chunk(chunk)
        objects.put_bytes(urls.join_url(group_url, key), data)
        num_bytes += len(data)
    return num_bytes


def read_scene_window(
    store_url: str, zarr_path: str, layout: SceneLayout, y: int, x: int, height: int, width: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return pixels, (H, W) or (H, W, bands), and which of them stand for data, (H, W).

    Only the chunks that the rectangle meets are read. The scene need not be finished.

    Args:
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        layout: the arrays of the scene.
        y: first row, in pixels.
        x: first column, in pixels.
        height: number of rows, all of them in the scene.
        width: number of columns, all of them in the scene.

    Raises:
        FileNotFoundError: one of the chunks is not stored.
        StorageError: one can't be read.
    """
    assert 0 <= y < y + height <= layout.height and 0 <= x < x + width <= layout.width, (y, x)
    group_url = urls.join_url(store_url, zarr_path)
    metadata = image_metadata(layout)
    place = (slice(y, y + height), slice(x, x + width))
    if layout.bands == 1:
        pixels = read_array(urls.join_url(group_url, FUSED), metadata[FUSED], place)
    else:
        bands = (slice(0, layout.bands), *place)
        pixels = read_array(urls.join_url(group_url, FUSED), metadata[FUSED], bands)
        pixels = np.moveaxis(pixels, 0, 2)
    valid = read_array(urls.join_url(group_url, VALID), metadata[VALID], place)
    return pixels, valid.astype(np.bool_)


def write_overviews(store_url: str, zarr_path: str, layout: SceneLayout) -> int:
    """Write every overview, each from the next larger size, and return the bytes stored.

    A pixel is the mean of those of the four below it that stand for data, rounded (half to even) for
    whole numbers. Where none does, it stands for no data, and has the value of the first of them. Four
    windows are read at a time, so that the memory needed does not grow with the scene.

    Raises:
        FileNotFoundError: a window of the scene is not stored.
        StorageError: one can't be read, or an overview can't be written.
    """
    num_bytes = 0
    source, source_path = layout, zarr_path
    for reduction, level in layout.overviews().items():
        level_path = urls.join_url(zarr_path, OVERVIEWS, str(reduction))
        for row in range(level.num_rows):
            for column in range(level.num_columns):
                y, x = 2 * row * level.window, 2 * column * level.window
                height = min(2 * level.window, source.height - y)
                width = min(2 * level.window, source.width - x)
                found = read_scene_window(store_url, source_path, source, y, x, height, width)
                num_bytes += write_scene_window(
                    store_url, level_path, level, row, column, *_halved(*found)
                )
        source, source_path = level, level_path
    return num_bytes


def finish_scene(
    store_url: str, zarr_path: str, layout: SceneLayout, attributes: dict[str, Any]
) -> None:
    """Put the metadata of `fused` and then that of the group: from now on the scene is complete.

    Args:
        store_url: URL of the store.
        zarr_path: as of `escape_pair_id`.
        layout: the arrays of the scene, of which every window and every overview is stored.
        attributes: attributes of the pair, beside which the group gets those of GeoZarr.
    """
    encoded = scene_objects(layout, attributes)
    for key in LAST:
        objects.put_bytes(urls.join_url(store_url, zarr_path, key), encoded[key])


def _halved(
    pixels: NDArray[np.generic], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return (H / 2, W / 2[, bands]) and (H / 2, W / 2), both sides rounded up."""
    mean, seen = overview_of(pixels, valid, 2)
    if seen is None:
        return mean, np.ones(mean.shape[:2], np.bool_)
    return np.where(seen if pixels.ndim == 2 else seen[..., None], mean, pixels[::2, ::2]), seen
