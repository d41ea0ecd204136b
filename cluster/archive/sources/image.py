"""A decoded image, and what the formats share: sizes, alpha, orientation, damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.archive.reasons import BadImage

Pixels = NDArray[Any]
Mask = NDArray[np.bool_]
MASK_SHARE = 0.99
"""Share of pixels that are wholly opaque or wholly transparent from which alpha is taken for a mask."""
CUT = ("truncated", "not enough", "premature", "too small", "end of file", "end before")
"""Parts of the messages by which decoders say that data end early."""


@dataclass(frozen=True)
class SourceImage:
    """The pixels of one file."""

    pixels: Pixels
    """(H, W) or (H, W, 3); uint8, uint16 or float32."""
    valid: Mask | None = None
    """(H, W), False where the file says that it has no data; None where it has data everywhere."""
    note: str = ""
    """What a user should know about the pixels; empty where there is nothing."""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise BadImage where an image has more pixels than are decoded."""
    if width * height > max_pixels:
        raise BadImage(
            "too_many_pixels",
            f"{height} x {width} px (height x width) is {width * height} pixels, expected at most "
            f"{max_pixels}: raise --max-pixels where memory allows",
        )


def without_alpha(samples: Pixels) -> SourceImage:
    """Split (H, W, 2) grey or (H, W, 4) RGB with alpha.

    Alpha is a mask where nearly all pixels are wholly opaque or wholly transparent and there are some of
    both; those that are wholly transparent have no data then. Any other alpha is dropped.
    """
    alpha = samples[..., -1]
    colour = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
    return SourceImage(np.ascontiguousarray(colour), alpha != 0 if is_mask(alpha) else None)


def is_mask(alpha: Pixels) -> bool:
    """Return whether an image's alpha says where it has data, by the rule of `without_alpha`."""
    opaque = alpha == np.iinfo(alpha.dtype.name).max
    clear = alpha == 0
    return bool(opaque.any() and clear.any() and (opaque | clear).mean() >= MASK_SHARE)


def upright(image: SourceImage, orientation: int) -> SourceImage:
    """Return an image turned and mirrored as EXIF's orientation, 1 to 8, says; others count as 1."""
    valid = None if image.valid is None else np.ascontiguousarray(_turned(image.valid, orientation))
    return replace(image, pixels=np.ascontiguousarray(_turned(image.pixels, orientation)), valid=valid)


def _turned(array: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    if orientation in (2, 3, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7):
        array = array[::-1]
    if orientation in (5, 7):
        array = array.swapaxes(0, 1)
    if orientation in (6, 8):
        array = np.rot90(array, -1 if orientation == 6 else 1)
    return array


def damaged(num_bytes: int, kind: str, error: Exception) -> BadImage:
    """Return what a decoder's error means: the file ends early, or is damaged."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    short = isinstance(error, EOFError) or any(word in said.lower() for word in CUT)
    return BadImage(
        "truncated" if short else "unreadable",
        f"{num_bytes} bytes of {kind} that can't be decoded ({said}), expected an undamaged file: "
        "write it again",
    )
