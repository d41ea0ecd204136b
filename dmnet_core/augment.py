"""Random crops of training pairs, and random changes that keep a pair a pair.

The losses are defined on any pair of images, so every crop, turned and with other tones, is a valid
one. Both sides are cut and turned alike; their tones change each by itself.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHARE_VARIED = 0.5
"""Of images whose tones are changed; the others stay as they are."""
GAMMA_OCTAVES = 1.0
DARKEST, BRIGHTEST = (0.0, 0.25), (0.55, 1.0)


def random_crop(
    ir: Tensor, vis: Tensor, side: int, random: np.random.Generator, *, tones: bool
) -> tuple[Tensor, Tensor]:
    """Cut the same random square out of both images, flip and turn it at random.

    Args:
        ir: (H, W) luminance in [0, 1].
        vis: the same shape.
        side: of the square, pixels; smaller images are repeated at their border up to it.
        random: source of chance.
        tones: whether `vary_tones` is applied to each side.

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
    """Change the tone curve of one image at random, as another camera or hour would.

    With a chance of SHARE_VARIED, low + (high - low) image^gamma: low and high uniform in DARKEST
    and BRIGHTEST, gamma in [1/2, 2], uniform in its logarithm. The fused image's target is made of
    the changed sources, so every such pair is a valid one.

    Args:
        image: luminance in [0, 1], any shape.
        random: source of chance.

    Returns:
        The same shape, in [0, 1].
    """
    if random.random() >= SHARE_VARIED:
        return image
    low, high = random.uniform(*DARKEST), random.uniform(*BRIGHTEST)
    gamma = 2.0 ** random.uniform(-GAMMA_OCTAVES, GAMMA_OCTAVES)
    varied: Tensor = low + (high - low) * image.clamp(min=0.0) ** gamma
    return varied
