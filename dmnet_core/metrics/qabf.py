"""Edge preservation (Qabf) of Xydeas and Petrovic.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmnet_core.metrics.images import check_images, round_levels
from dmnet_core.metrics.windows import ROWS, framed_core
from dmnet_core.window import Window

STRENGTH_GAIN, STRENGTH_SLOPE, STRENGTH_MIDDLE = 0.9994, -15.0, 0.5
ANGLE_GAIN, ANGLE_SLOPE, ANGLE_MIDDLE = 0.9879, -22.0, 0.8


def edge_preservation(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Edge preservation (Qabf): how much of the sources' edges the fused image has; higher is better.

    Sobel gives each pixel a strength g and an angle a = atan(sy / sx), pi/2 where sx = 0. For a
    source A: G = min(gA, gF) / max(gA, gF), D = 1 - |aA - aF| / (pi/2),
    Q = [.9994 / (1 + exp(-15 (G - .5)))] [.9879 / (1 + exp(-22 (D - .8)))], and
    Qabf = sum(Q_ir g_ir + Q_vis g_vis) / sum(g_ir + g_vis). Where gA = gF the authors' code takes
    G = gF, and so does this. Range 0 to 0.975 (all edges kept). 0 where neither source has an edge.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Xydeas and Petrovic, Electronics Letters 36(4):308-309, 2000.
    Variant:
        Zero border, as `conv2(..., 'same')`: the frame of a bright image counts as an edge, so a
        constant image that is not black has edges. Grey levels 0..255: on [0, 1] the number
        changes, through G = gF. VIFB has the same constants; Liu's `metricXydeas` has others.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("edge_preservation", ir=ir, vis=vis, fused=fused)
    levels = torch.cat([round_levels(image) for image in (ir, vis, fused)], dim=1)
    return qabf_of(qabf_statistics(levels, Window.of_image(*ir.shape[2:])))


def qabf_statistics(images: Tensor, window: Window, valid: Tensor | None = None) -> Tensor:
    """Return the kept and the total edge strength, (B, 2) float64.

    A pixel counts where all of its 3 x 3 neighbourhood that lies within the image is valid.

    Args:
        images: (B, 3, H, W) integer grey levels: ir, vis, fused.
        window: what the arrays cover of their images.
        valid: (B, 1, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are.
    """
    framed = framed_core(images, window, outside=0.0)
    known = None if valid is None else framed_core(valid, window, outside=1.0)
    sums = torch.zeros(images.shape[0], 2, dtype=torch.float64, device=images.device)
    height = framed.shape[2] - 2
    step = ROWS if images.device.type == "cpu" else height
    for row in range(0, height, step):
        rows = slice(row, row + step + 2)
        sums += _kept_and_total(framed[:, :, rows], None if known is None else known[:, :, rows])
    return sums


def qabf_of(statistics: Tensor) -> Tensor:
    """Return Qabf, (B,) float64, from the sums of `qabf_statistics`."""
    kept, total = statistics.unbind(1)
    share = kept / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, share * (STRENGTH_GAIN * ANGLE_GAIN), 0.0)


def _kept_and_total(padded: Tensor, valid: Tensor | None) -> Tensor:
    """Return the kept and total strength of some rows, (B, 2), given with a pixel more on each side."""
    strength, angle = _edges(padded)
    if valid is not None:
        valid = valid[..., :-2, :] * valid[..., 1:-1, :] * valid[..., 2:, :]
        strength *= valid[..., :-2] * valid[..., 1:-1] * valid[..., 2:]
    source, fused = strength[:, :2], strength[:, 2:]
    weaker, stronger = torch.minimum(source, fused), torch.maximum(source, fused)
    ratio = torch.where(weaker == stronger, fused, weaker / stronger)  # 0/0 only where equal
    agreement = (angle[:, :2] - angle[:, 2:]).abs_().mul_(-2 / math.pi).add_(1.0)
    kept = _sigmoid(ratio, STRENGTH_SLOPE, STRENGTH_MIDDLE)
    kept.mul_(_sigmoid(agreement, ANGLE_SLOPE, ANGLE_MIDDLE)).mul_(source)
    sums = [part.sum(dim=(1, 2, 3), dtype=torch.float64) for part in (kept, source)]
    return torch.stack(sums, dim=1)


def _sigmoid(value: Tensor, slope: float, middle: float) -> Tensor:
    return value.sub_(middle).mul_(-slope).sigmoid_()


def _edges(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Return Sobel strength and angle in (-pi/2, pi/2], each (B, 3, H-2, W-2)."""
    smooth_y = padded[..., :-2, :] + padded[..., 2:, :]
    smooth_y.add_(padded[..., 1:-1, :], alpha=2.0)  # (B, 3, H, W+2)
    dx = smooth_y[..., 2:] - smooth_y[..., :-2]
    smooth_x = padded[..., :-2] + padded[..., 2:]
    smooth_x.add_(padded[..., 1:-1], alpha=2.0)  # (B, 3, H+2, W)
    dy = smooth_x[..., 2:, :] - smooth_x[..., :-2, :]
    # +0 before the quotient: dy / -0 would turn the angle pi/2 of a vertical step around
    angle = torch.where(dx == 0, math.pi / 2, torch.atan(dy / -dx))
    return torch.addcmul(dx.square(), dy, dy).sqrt_(), angle
