"""Pictures of pairs for people: infrared, visible and fused side by side, one strip a pair."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cluster.archive.sources.source import reduction
from cluster.text.plain_text import printable

CELL_WIDTH, CELL_GAP, LABEL_HEIGHT = 400, 6, 18
THUMBNAIL_WIDTH, THUMBNAIL_GAP = 200, 3
THUMBNAIL_SHAPE = (1 / 3, 1.5)
"""Least and greatest height of an image of a thumbnail, as parts of its width; others are cut."""


def draw_strip(images: list[NDArray[np.generic]], pair_id: str) -> Image.Image:
    """Return 8-bit IR, VIS and fused side by side, with the pair's name above."""
    height = max(1, round(images[0].shape[0] * CELL_WIDTH / images[0].shape[1]))
    width = 3 * CELL_WIDTH + 2 * CELL_GAP
    strip = Image.new("RGB", (width, height + LABEL_HEIGHT + CELL_GAP), "white")
    draw = ImageDraw.Draw(strip)
    shown = printable(pair_id.encode("ascii", "replace").decode())[:48]
    labels = (f"IR  {shown}", "VIS", "fused")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = index * (CELL_WIDTH + CELL_GAP)
        cell = Image.fromarray(image).convert("RGB").resize((CELL_WIDTH, height))
        strip.paste(cell, (left, LABEL_HEIGHT))
        draw.text((left + 2, 3), label, fill="black")
    return strip


def draw_thumbnail(images: list[NDArray[np.generic]]) -> Image.Image:
    """Return 8-bit images of one pair side by side, small and without words."""
    shape = images[0].shape[0] / images[0].shape[1]
    shown = min(max(shape, THUMBNAIL_SHAPE[0]), THUMBNAIL_SHAPE[1])
    height = round(THUMBNAIL_WIDTH * shown)
    step = THUMBNAIL_WIDTH + THUMBNAIL_GAP
    thumbnail = Image.new("RGB", (len(images) * step - THUMBNAIL_GAP, height), "white")
    for index, image in enumerate(images):
        rows, columns = image.shape[:2]
        # The middle of an image that is much longer than it is wide, or the other way round.
        kept_rows, kept_columns = min(rows, round(columns * shown)), min(columns, round(rows / shown))
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        cell = Image.fromarray(image).convert("RGB").resize(
            (THUMBNAIL_WIDTH, height),
            Image.Resampling.BOX if kept_columns > THUMBNAIL_WIDTH else Image.Resampling.BICUBIC,
            box=(left, top, left + max(1, kept_columns), top + max(1, kept_rows)),
        )
        thumbnail.paste(cell, (index * step, 0))
    return thumbnail


def reduced(image: NDArray[np.generic], max_side: int) -> NDArray[np.generic]:
    """Return an 8-bit image reduced by a whole number, so that no side is longer than max_side pixels."""
    factor = reduction(image.shape[0], image.shape[1], max_side)
    return image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))


def draw_sheet(strips: list[Image.Image]) -> bytes:
    """Return the PNG of strips, one below the other."""
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
