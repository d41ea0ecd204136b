"""What every metric does with its images first: check them, round them to integer grey levels."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_LEVELS = 256
MIDDLE = 128.0
"""Grey level that is subtracted before squares are taken, to keep rounding errors small."""
MIN_SIDE = 3
"""Least height and width in pixels: smaller images have no central difference and fit no filter."""


def check_images(metric: str, **images: Tensor) -> None:
    """Check the images of one metric.

    Args:
        metric: name of the metric, for the message.
        images: each (B, 1, H, W), any real dtype, grey levels in [0, 255], all of one shape.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above; the message names the image.
    """
    first_name, first = next(iter(images.items()))
    for name, image in images.items():
        shape = tuple(image.shape)
        if image.ndim != 4 or shape[1] != 1 or min(shape[2:]) < MIN_SIDE or shape[0] < 1:
            raise ValueError(
                f"{metric}: {name} has shape {shape}, expected (B, 1, H, W) with B >= 1 and H and "
                f"W >= {MIN_SIDE}; add the two leading axes with image[None, None], and pass the "
                "luminance of a colour image"
            )
        if shape != tuple(first.shape):
            raise ValueError(
                f"{metric}: {name} has shape {shape} and {first_name} has {tuple(first.shape)}, "
                "expected one shape; register or resample the pair"
            )
        if image.dtype == torch.bool or image.is_complex():
            raise ValueError(
                f"{metric}: {name} has dtype {image.dtype}, expected real grey levels; convert it "
                "with image.double()"
            )
        low, high = image.aminmax()
        if not (low >= 0 and high < NUM_LEVELS - 0.5):  # also false for NaN
            raise ValueError(
                f"{metric}: {name} holds levels from {low.item():g} to {high.item():g}, expected "
                "grey levels in [0, 255] and no NaN; multiply luminance in [0, 1] by 255, and "
                "scale deeper images down first"
            )


def check_valid(metric: str, valid: Tensor, image: Tensor) -> None:
    """Check the mask of the pixels that take part in a metric.

    Args:
        metric: name of the metric, for the message.
        valid: (B, 1, H, W) bool.
        image: one of the images that the mask belongs to, checked before.

    Raises:
        ValueError: the mask is not bool or has another shape than the image.
    """
    if valid.dtype != torch.bool or valid.shape != image.shape:
        raise ValueError(
            f"{metric}: valid is {valid.dtype} with shape {tuple(valid.shape)}, expected torch.bool "
            f"with shape {tuple(image.shape)}, that of the images; pass True where both sources have "
            "data, or None where they have data everywhere"
        )


def round_levels(image: Tensor) -> Tensor:
    """Round grey levels to integers, halves to even; float32, which holds them exactly."""
    return image.round().float()
