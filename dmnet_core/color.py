"""Luminance and chroma of colour images.

Reference: ITU-R BT.601 luma weights, full range (JFIF 1.02).

Shapes: rgb (H, W, 3) float32 in [0, 1]; y (H, W) in [0, 1]; chroma (H, W, 2), Cb and Cr about 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
RED, GREEN, BLUE = 0.299, 0.587, 0.114


def rgb_to_y(rgb: Float) -> Float:
    """Return the luminance (H, W)."""
    y: Float = (RED * rgb[..., 0] + GREEN * rgb[..., 1] + BLUE * rgb[..., 2]).astype(np.float32)
    return y


def rgb_to_chroma(rgb: Float, y: Float) -> Float:
    """Return Cb and Cr, (H, W, 2) in [-1/2, 1/2]."""
    blue = (rgb[..., 2] - y) / (2 * (1 - BLUE))
    red = (rgb[..., 0] - y) / (2 * (1 - RED))
    return np.stack([blue, red], axis=-1).astype(np.float32)


def to_rgb(y: Float, chroma: Float) -> Float:
    """Return (H, W, 3), cut to [0, 1]: bright Y with strong chroma lies outside the RGB cube."""
    red = y + 2 * (1 - RED) * chroma[..., 1]
    blue = y + 2 * (1 - BLUE) * chroma[..., 0]
    green = (y - RED * red - BLUE * blue) / GREEN
    out: Float = np.clip(np.stack([red, green, blue], axis=-1), 0.0, 1.0).astype(np.float32)
    return out
