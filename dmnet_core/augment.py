"""Random crops of training pairs, and random changes that keep a pair a pair.

The losses are defined on any pair of images, so a crop that is turned and has other tones is still a
valid pair. Both images are cut and turned alike; their tones change independently.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHARE_VARIED = 0.5
"""Share of the images whose tones are changed; the others stay as they are."""
GAMMA_OCTAVES = 1.0
"""Largest absolute base-2 logarithm of gamma."""
DARKEST, BRIGHTEST = (0.0, 0.25), (0.55, 1.0)
"""Bounds between which the luminance of black and of white is drawn."""


def random_crop(
    ir: Tensor, vis: Tensor, side: int, random: np.random.Generator, *, tones: bool
) -> tuple[Tensor, Tensor]:
    """Cut the same random square out of both images, flip and turn it at random.

    Args:
        ir: (H, W) luminance in [0, 1].
        vis: the same shape.
        side: side of the square, in pixels; a smaller image is extended by repeating its border.
        random: generator of all random numbers.
        tones: whether `vary_tones` is applied to each image.

    Returns:
        Two (1, side, side) images.
    """
    height, width = ir.shape
    y0 = int(random.integers(max(height - side, 0) + 1))
    x0 = int(random.integers(max(width - side, 0) + 1))
    turns, flip = int(random.integers(4)), bool(random.integers(2))

    def cut(image: Tensor) -> Tensor:
        square = image[y0 : y0 + side, x0 : x0 + side]
        short = (0, side - square.shape[1], 0, side - square.shape[0])
        if any(short):
            square = F.pad(square[None, None], short, mode="replicate")[0, 0]
        square = torch.rot90(square, turns)
        square = square.flip(0) if flip else square
        return (vary_tones(square, random) if tones else square)[None]  # (1, side, side)

    return cut(ir), cut(vis)


def vary_tones(image: Tensor, random: np.random.Generator) -> Tensor:
    """Change the tone curve of one image at random, as another camera or time of day would.

    With probability SHARE_VARIED the result is low + (high - low) image^gamma: low and high are uniform
    in DARKEST and BRIGHTEST, gamma is in [1/2, 2] and uniform in its logarithm. The losses compare the
    fused image with the changed sources, so every such pair is a valid one.

    Args:
        image: luminance in [0, 1], any shape.
        random: generator of all random numbers.

    Returns:
        Luminance of the same shape, in [0, 1].
    """
    if random.random() >= SHARE_VARIED:
        return image
    low, high = random.uniform(*DARKEST), random.uniform(*BRIGHTEST)
    gamma = 2.0 ** random.uniform(-GAMMA_OCTAVES, GAMMA_OCTAVES)
    varied: Tensor = low + (high - low) * image.clamp(min=0.0) ** gamma
    return varied
