"""Pictures of pairs for people: infrared, visible and fused side by side, one strip a pair."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cluster.text.plain_text import printable

CELL_WIDTH, CELL_GAP, LABEL_HEIGHT = 400, 6, 18


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
