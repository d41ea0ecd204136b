"""Linear correlation with the sources: CC and SCD, from shared central moments.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255]; each metric (B,) float64.
A Pearson coefficient with an image whose standard deviation is below 1e-9 grey levels (constant
but for rounding) is not defined; it counts as 0 here, never NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.images import centred, check_images

CONSTANT_BELOW = 1e-9
"""Standard deviation in grey levels under which an image counts as constant."""


def correlations(ir: Tensor, vis: Tensor, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return CC, SCD and SD together; the images as in the module docstring, unchecked."""
    ir_0, vis_0, fused_0 = (_deviations(image) for image in (ir, vis, fused))  # (B, H*W)
    without_vis, without_ir = fused_0 - vis_0, fused_0 - ir_0
    num_pixels = fused_0.shape[1]
    cc = (_pearson(ir_0, fused_0) + _pearson(vis_0, fused_0)) / 2
    scd = _pearson(without_vis, ir_0) + _pearson(without_ir, vis_0)
    return cc, scd, (_dot(fused_0, fused_0) / num_pixels).sqrt()


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
        ValueError: an image is not as said.
    """
    check_images("correlation_coefficient", ir=ir, vis=vis, fused=fused)
    return correlations(ir, vis, fused)[0]


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
        ValueError: an image is not as said.
    """
    check_images("sum_of_correlations_of_differences", ir=ir, vis=vis, fused=fused)
    return correlations(ir, vis, fused)[1]


def _deviations(image: Tensor) -> Tensor:
    flat = centred(image).flatten(1)  # (B, H*W)
    return flat - flat.mean(dim=1, keepdim=True)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    out: Tensor = torch.linalg.vecdot(one, other)
    return out


def _pearson(one: Tensor, other: Tensor) -> Tensor:
    """Correlate deviations, each (B, N) with mean 0."""
    one_ss, other_ss = _dot(one, one), _dot(other, other)
    defined = torch.minimum(one_ss, other_ss) > one.shape[1] * CONSTANT_BELOW**2
    norm = torch.where(defined, one_ss.sqrt() * other_ss.sqrt(), 1.0)
    r = torch.where(defined, _dot(one, other) / norm, 0.0)
    return r.clamp(-1.0, 1.0)  # Cauchy-Schwarz, which rounding can break by 1e-16
