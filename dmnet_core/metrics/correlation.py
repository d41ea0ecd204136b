"""Linear correlation with the sources: CC and SCD, from shared sums of products.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255], rounded to integer levels; each metric
(B,) float64. Sums of integer levels are exact, so a constant image is recognized: Pearson's coefficient
with it is undefined and counts as 0 here, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dmnet_core.metrics.images import check_images, round_levels

IR, VIS, FUSED = 0, 1, 2
PIXELS_AT_ONCE = 2**16
"""Number of pixels that are converted to float64 at a time, so that the copies stay in the cache."""
Covariances = list[list[int]]
Mix = tuple[int, int, int]


def correlation_coefficient(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Correlation coefficient (CC) of the fused image with the sources; higher is better.

    CC = (r(ir, fused) + r(vis, fused)) / 2, r Pearson's coefficient over all pixels. Range -1
    to 1; a constant image makes its r 0.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Ma, Ma and Li, Information Fusion 45:153-178, 2019 (the survey that fixed the mean of both).
    Variant:
        Evaluators agree, except that most give NaN for a constant image.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("correlation_coefficient", ir=ir, vis=vis, fused=fused)
    return cc_of(moments(*map(round_levels, (ir, vis, fused))))


def sum_of_correlations_of_differences(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Sum of the correlations of differences (SCD); higher is better.

    SCD = r(fused - vis, ir) + r(fused - ir, vis): what one source left out should look like the
    other. Range -2 to 2; a constant image or difference (fused = vis) makes its r 0.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Aslantas and Bendes, AEU Int. J. Electron. Commun. 69(12):1890-1896, 2015.
    Variant:
        Differences are signed. Code on uint8 arrays cuts negative differences to 0 or wraps them
        and is another number.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("sum_of_correlations_of_differences", ir=ir, vis=vis, fused=fused)
    return scd_of(moments(*map(round_levels, (ir, vis, fused))))


def moments(ir: Tensor, vis: Tensor, fused: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the sums of products of (ir, vis, fused, 1), (B, 4, 4) float64, exact below 2^53.

    Args:
        ir: (B, 1, H, W) integer grey levels.
        vis: the same shape.
        fused: the same shape.
        valid: the same shape, float32, 1 where a pixel is summed and 0 elsewhere; None sums all.
    """
    weights = torch.ones_like(ir) if valid is None else valid
    images = torch.cat([ir, vis, fused, weights], dim=1).flatten(2)
    if valid is not None:
        images *= valid.flatten(2)
    sums = torch.zeros(images.shape[0], 4, 4, dtype=torch.float64, device=images.device)
    for part in images.split(PIXELS_AT_ONCE, dim=2):
        wide = part.double()
        sums += wide @ wide.transpose(1, 2)
    return sums


def sd_of(sums: Tensor) -> Tensor:
    """Return SD, (B,) float64 in grey levels, from the sums of `moments`; 0 without any pixel."""
    return _each(sums, lambda cov, count: math.sqrt(cov[FUSED][FUSED]) / max(count, 1))


def cc_of(sums: Tensor) -> Tensor:
    """Return CC, (B,) float64, from the sums of `moments`."""
    return _each(sums, lambda cov, _: sum(_pearson(cov, _only(s), _only(FUSED)) for s in (IR, VIS)) / 2)


def scd_of(sums: Tensor) -> Tensor:
    """Return SCD, (B,) float64, from the sums of `moments`."""
    without_vis, without_ir = (0, -1, 1), (-1, 0, 1)
    return _each(
        sums,
        lambda cov, _: _pearson(cov, without_vis, _only(IR)) + _pearson(cov, without_ir, _only(VIS)),
    )


def _each(sums: Tensor, value: Callable[[Covariances, int], float]) -> Tensor:
    """Apply `value` to each image's covariances, as exact integers: count^2 times the covariances."""
    values = []
    for image in sums.tolist():
        products = [[round(number) for number in row] for row in image]
        count = products[3][3]
        cov = [
            [count * products[a][b] - products[a][3] * products[b][3] for b in range(3)] for a in range(3)
        ]
        values.append(value(cov, count))
    return torch.tensor(values, dtype=torch.float64, device=sums.device)


def _only(image: int) -> Mix:
    return (int(image == IR), int(image == VIS), int(image == FUSED))


def _pearson(cov: Covariances, one: Mix, other: Mix) -> float:
    """Correlate two linear combinations of the images, given by their integer weights."""

    def between(left: Mix, right: Mix) -> int:
        return sum(left[a] * right[b] * cov[a][b] for a in range(3) for b in range(3))

    one_var, other_var = between(one, one), between(other, other)
    if not one_var or not other_var:
        return 0.0
    r = between(one, other) / (math.sqrt(one_var) * math.sqrt(other_var))
    return max(-1.0, min(1.0, r))  # Cauchy-Schwarz, which rounding can break by 1e-16
