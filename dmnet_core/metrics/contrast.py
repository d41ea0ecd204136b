"""Contrast of the fused image alone: SD, SF and AG.

Shapes: fused (B, 1, H, W) grey levels in [0, 255], rounded to integer levels; each metric (B,) float64
in grey levels. Statistics are sums over the pixels of a window's core.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.correlation import moments, sd_of
from dmnet_core.metrics.images import check_images, round_levels
from dmnet_core.metrics.windows import core_of, framed_core
from dmnet_core.window import Window


def standard_deviation(fused: Tensor) -> Tensor:
    """Standard deviation (SD) of each image; higher means more global contrast.

    SD = sqrt(mean((F - mean F)^2)). Range 0 (constant image) to 127.5 grey levels.

    Args:
        fused: (B, 1, H, W) grey levels in [0, 255].

    Returns:
        (B,) float64 in grey levels.

    Reference:
        Rao, Measurement Science and Technology 8(4):355-378, 1997.
    Variant:
        Divides by the number of pixels N. MATLAB's `std2` divides by N - 1.

    Raises:
        ValueError: fused has another shape, dtype or range of grey levels.
    """
    check_images("standard_deviation", fused=fused)
    levels = round_levels(fused)
    return sd_of(moments(levels, levels, levels))


def spatial_frequency(fused: Tensor) -> Tensor:
    """Spatial frequency (SF) of each image; higher means more fine detail.

    SF = sqrt(RF^2 + CF^2), the root mean squares of the first differences along rows and along
    columns. Range 0 (constant image) to 255 sqrt(2).

    Args:
        fused: (B, 1, H, W) grey levels in [0, 255].

    Returns:
        (B,) float64 in grey levels.

    Reference:
        Eskicioglu and Fisher, IEEE Trans. Commun. 43(12):2959-2965, 1995.
    Variant:
        Means are over the H*(W-1) and (H-1)*W differences that exist. VIFB divides both by H*W
        and reads slightly lower; do not mix the two in one table.

    Raises:
        ValueError: fused has another shape, dtype or range of grey levels.
    """
    check_images("spatial_frequency", fused=fused)
    height, width = fused.shape[2:]
    return sf_of(sf_statistics(round_levels(fused), Window.of_image(height, width)))


def average_gradient(fused: Tensor) -> Tensor:
    """Average gradient (AG) of each image; higher means sharper.

    AG = mean over all H*W pixels of sqrt((gx^2 + gy^2) / 2), central differences (half the
    distance-two difference), one-sided in the first and last row and column. Range 0 (constant
    image) to 255.

    Args:
        fused: (B, 1, H, W) grey levels in [0, 255].

    Returns:
        (B,) float64 in grey levels per pixel.

    Reference:
        Cui, Feng, Xu, Li and Chen, Optics Communications 341:199-209, 2015.
    Variant:
        The CDDFuse family's evaluator (MATLAB's and NumPy's `gradient`). Others take forward
        differences and divide by (H-1)*(W-1), which reads markedly higher.

    Raises:
        ValueError: fused has another shape, dtype or range of grey levels.
    """
    check_images("average_gradient", fused=fused)
    height, width = fused.shape[2:]
    return ag_of(ag_statistics(round_levels(fused), Window.of_image(height, width)))


def sf_statistics(fused: Tensor, window: Window, valid: Tensor | None = None) -> Tensor:
    """Return the sums and the counts of squared differences along x and along y.

    A difference belongs to its right or lower pixel, and counts where both of its pixels are valid.

    Args:
        fused: (B, 1, H, W) integer grey levels.
        window: what the array covers of its image.
        valid: (B, 1, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are.

    Returns:
        (B, 2, 2) float64: along x, then y; the sum in squared grey levels, then the count.
    """
    pixels = core_of(fused[:, 0], window, before=1)
    known = None if valid is None else core_of(valid[:, 0], window, before=1)
    # the row above the core and the column left of it, where the image has them
    above, left = int(window.rows.first > 0), int(window.columns.first > 0)
    parts = []
    for axis, inner in ((2, (..., slice(above, None), slice(None))), (1, (..., slice(left, None)))):
        parts.append(_difference_sums(pixels[inner], None if known is None else known[inner], axis))
    return torch.stack(parts, dim=1)


def sf_of(statistics: Tensor) -> Tensor:
    """Return SF, (B,) float64, from the sums of `sf_statistics`; no difference counts as 0."""
    means = statistics[..., 0] / statistics[..., 1].clamp(min=1.0)
    return means.sum(dim=1).sqrt()


def ag_statistics(fused: Tensor, window: Window, valid: Tensor | None = None) -> Tensor:
    """Return the sum of the gradients' lengths and the count of pixels.

    A pixel counts where it and the up to four pixels beside, above and below it are valid.

    Args:
        fused: (B, 1, H, W) integer grey levels.
        window: what the array covers of its image.
        valid: (B, 1, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are.

    Returns:
        (B, 2) float64: the sum in grey levels per pixel, then the count.
    """
    pixels = core_of(fused[:, 0], window, before=1, after=1)
    # extrapolated linearly, so that the central difference at the border equals the one-sided one
    pixels = _continued(_continued(pixels, window.columns.first == 0, window.at_right, 2),
                        window.rows.first == 0, window.at_bottom, 1)  # fmt: skip
    dx = pixels[:, 1:-1, 2:] - pixels[:, 1:-1, :-2]  # twice the gradient
    dy = pixels[:, 2:, 1:-1] - pixels[:, :-2, 1:-1]
    lengths = dx.square_().addcmul_(dy, dy).sqrt_()
    if valid is None:
        count = lengths.new_full(lengths.shape[:1], lengths[0].numel(), dtype=torch.float64)
    else:
        known = framed_core(valid[:, 0], window, outside=1.0)
        beside = known[:, 1:-1, :-2] * known[:, 1:-1, 2:]
        known = known[:, 1:-1, 1:-1] * beside * known[:, :-2, 1:-1] * known[:, 2:, 1:-1]
        lengths *= known
        count = known.sum(dim=(1, 2), dtype=torch.float64)
    total = lengths.sum(dim=(1, 2), dtype=torch.float64) / 8.0**0.5
    return torch.stack([total, count], dim=1)


def ag_of(statistics: Tensor) -> Tensor:
    """Return AG, (B,) float64, from the sums of `ag_statistics`; 0 without any pixel."""
    return statistics[:, 0] / statistics[:, 1].clamp(min=1.0)


def _difference_sums(pixels: Tensor, valid: Tensor | None, axis: int) -> Tensor:
    """Return the sum and the count of squared differences along an axis, (B, 2) float64.

    Args:
        pixels: (B, H, W) integer grey levels.
        valid: the same shape, 1 for each valid pixel and 0 elsewhere; None where all are.
        axis: 1 or 2.
    """
    difference = pixels.diff(dim=axis)
    if valid is None:
        count = pixels.new_full(pixels.shape[:1], difference[0].numel(), dtype=torch.float64)
    else:
        pairs = valid.shape[axis] - 1
        both = valid.narrow(axis, 0, pairs) * valid.narrow(axis, 1, pairs)
        difference *= both
        count = both.sum(dim=(1, 2), dtype=torch.float64)
    squares = torch.linalg.vecdot(difference.flatten(1).double(), difference.flatten(1).double())
    return torch.stack([squares, count], dim=1)


def _continued(pixels: Tensor, before: bool, after: bool, axis: int) -> Tensor:
    """Extrapolate linearly by one line before and one after, where asked."""
    size = pixels.shape[axis]
    parts = [pixels]
    if before:
        parts.insert(0, 2 * pixels.narrow(axis, 0, 1) - pixels.narrow(axis, 1, 1))
    if after:
        parts.append(2 * pixels.narrow(axis, size - 1, 1) - pixels.narrow(axis, size - 2, 1))
    return torch.cat(parts, dim=axis)
