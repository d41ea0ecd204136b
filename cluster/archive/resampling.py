"""Pixels of an image at positions between its pixels, bilinear and with regard to its mask."""

from __future__ import annotations

import numpy as np

from cluster.archive.mapping import Numbers
from cluster.archive.sources.image import Mask, SourceImage
from cluster.archive.sources.source import Source, Window, as_dtype, data_of, read_reduced


def read_at(source: Source, x: Numbers, y: Numbers, step: int) -> SourceImage:
    """Return the pixels of a source at positions, of which those outside of it have no data.

    Args:
        source: the image; only the part that is needed is read.
        x: (H, W) columns, (0, 0) being the outer corner of the first pixel; NaN is outside.
        y: (H, W) rows.
        step: whole number by which the image is reduced first, so that each of its pixels counts.

    Returns:
        (H, W) or (H, W, 3) of the type of the source, 0 where there are no data. A position has data
        where the pixel that it lies in has; the value is the mean of the four pixels around that have
        data, weighted by their nearness.
    """
    inside = (x >= 0) & (x <= source.width) & (y >= 0) & (y <= source.height)
    shape = (*x.shape, 3) if source.is_colour else x.shape
    if not inside.any():
        return SourceImage(np.zeros(shape, source.dtype), inside)
    # The rest is counted in pixels of the reduced image.
    x, y = (np.where(inside, numbers, numbers[inside].min()) / step for numbers in (x, y))
    height, width = -(-source.height // step), -(-source.width // step)
    top, bottom = _span(y, height)
    left, right = _span(x, width)
    window = Window(
        top * step,
        left * step,
        min(bottom * step, source.height) - top * step,
        min(right * step, source.width) - left * step,
    )
    image = read_reduced(source, window, step)
    pixels, found = _bilinear(image, x, y, top, left)
    valid = inside & found
    pixels[~valid] = 0
    return SourceImage(as_dtype(pixels, np.dtype(source.dtype)), None if valid.all() else valid)


def _span(positions: Numbers, size: int) -> tuple[int, int]:
    """Return the first and the one behind the last of the pixels that positions need."""
    first = int(np.floor(positions.min() - 0.5))
    last = int(np.floor(positions.max() - 0.5)) + 1
    return min(max(first, 0), size - 1), min(max(last, 0), size - 1) + 1


def _bilinear(
    image: SourceImage, x: Numbers, y: Numbers, top: int, left: int
) -> tuple[Numbers, Mask]:
    """Return values (H, W[, 3]) and whether they have data; `image` begins at row top, column left."""
    has_data = data_of(image)
    is_colour = image.pixels.ndim == 3
    values = np.where(has_data[..., None] if is_colour else has_data, image.pixels, 0).astype(np.float64)
    height, width = has_data.shape
    # Rows and fractions are of the whole image, so that rounding is the same in every window.
    y_floor, x_floor = np.floor(y - 0.5), np.floor(x - 0.5)
    down, across = y - 0.5 - y_floor, x - 0.5 - x_floor
    total = np.zeros((*x.shape, 3) if is_colour else x.shape)
    weights = np.zeros(x.shape)
    for row, row_weight in ((0, 1 - down), (1, down)):
        i = np.clip(y_floor.astype(np.int64) + row - top, 0, height - 1)
        for column, column_weight in ((0, 1 - across), (1, across)):
            j = np.clip(x_floor.astype(np.int64) + column - left, 0, width - 1)
            weight = row_weight * column_weight * has_data[i, j]
            total += values[i, j] * (weight[..., None] if is_colour else weight)
            weights += weight
    i = np.clip(np.floor(y).astype(np.int64) - top, 0, height - 1)
    j = np.clip(np.floor(x).astype(np.int64) - left, 0, width - 1)
    found = has_data[i, j] & (weights > 0)
    weights[weights == 0] = 1
    return total / (weights[..., None] if is_colour else weights), found
