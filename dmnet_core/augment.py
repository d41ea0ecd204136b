"""Random changes of training crops that keep a pair a pair: the losses are defined on any of them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

SHARE_VARIED = 0.5
"""Of images whose tones are changed; the others stay as they are."""
GAMMA_OCTAVES = 1.0
DARKEST, BRIGHTEST = (0.0, 0.25), (0.55, 1.0)


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
