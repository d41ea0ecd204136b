"""Grey levels: the one place where luminance in [0, 1] is multiplied by 255.

The network works on luminance in [0, 1]; metrics and reference methods work on grey levels in [0, 255].
An 8-bit *output* is made by `ranges.from_unit`, which scales to the range of any output type in float64.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor

MAX_LEVEL = 255.0
"""Grey level of luminance 1."""
Image = TypeVar("Image", Tensor, NDArray[Any])


def to_levels(luminance: Image) -> Image:
    """Return luminance in [0, 1] as grey levels in [0, 255], not rounded; any shape, dtype kept."""
    return luminance * MAX_LEVEL


def from_levels(levels: Image) -> Image:
    """Return grey levels in [0, 255] as luminance in [0, 1]; any shape, dtype kept."""
    return levels / MAX_LEVEL
