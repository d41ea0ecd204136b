"""Information measures: entropy (EN) and mutual information (MI), from one joint histogram pass.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255], counted at the nearest integer level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmnet_core.metrics.images import NUM_LEVELS, check_images, round_levels


def joint_histogram(source: Tensor, fused: Tensor, valid: Tensor | None = None) -> Tensor:
    """Count the level pairs of each image: (B, 256, 256) int64, source level first.

    Args:
        source: (B, 1, H, W) integer grey levels in [0, 255].
        fused: the same shape.
        valid: the same shape, float32, 1 where a pixel is counted and 0 elsewhere; None counts all.
    """
    batch = source.shape[0]
    code = (source * NUM_LEVELS + fused).int()  # (B, 1, H, W)
    num_codes = NUM_LEVELS * NUM_LEVELS
    if valid is not None:
        code.masked_fill_(valid == 0, num_codes)
    code = code.flatten(1)  # (B, H*W)
    counts = [torch.bincount(row, minlength=num_codes)[:num_codes] for row in code]
    return torch.stack(counts).view(batch, NUM_LEVELS, NUM_LEVELS)


def histogram_entropy(counts: Tensor) -> Tensor:
    """Entropy in nats of each row of counts, 0 of a row of zeros: (B, K) int64 -> (B,) float64."""
    counts = counts.double()
    total = counts.sum(dim=1).clamp(min=1.0)
    nats = total.log() - torch.special.xlogy(counts, counts).sum(dim=1) / total
    out: Tensor = nats.clamp(min=0.0)  # rounding can leave -1e-16 for a single level
    return out


def information_from_histograms(ir_fused: Tensor, vis_fused: Tensor) -> tuple[Tensor, Tensor]:
    """Return EN (bits) and MI (nats) from the two joint histograms, each (B, 256, 256)."""
    fused_nats = histogram_entropy(ir_fused.sum(dim=1))
    shared = [
        histogram_entropy(joint.sum(dim=2)) + fused_nats - histogram_entropy(joint.flatten(1))
        for joint in (ir_fused, vis_fused)
    ]
    # mutual information is never negative; the difference of entropies can be, by rounding
    mutual = shared[0].clamp(min=0.0) + shared[1].clamp(min=0.0)
    return fused_nats / math.log(2.0), mutual


def entropy(fused: Tensor) -> Tensor:
    """Entropy (EN) of the grey levels of each image; higher means more levels in use.

    EN = -sum_k p_k log2 p_k over 256 levels, 0 log 0 = 0. Range 0 (constant image) to 8 bits.

    Args:
        fused: (B, 1, H, W) grey levels in [0, 255].

    Returns:
        (B,) float64 in bits.

    Reference:
        Roberts, van Aardt and Ahmed, J. Appl. Remote Sens. 2:023522, 2008.
    Variant:
        Levels are rounded to nearest. MATLAB's `entropy` is the same on 8-bit images; evaluators
        that bin a [0, 1] image into 256 equal bins shift the levels and differ in the third digit.

    Raises:
        ValueError: fused has another shape, dtype or range of grey levels.
    """
    check_images("entropy", fused=fused)
    levels = fused.round().int().flatten(1)
    counts = torch.stack([torch.bincount(row, minlength=NUM_LEVELS) for row in levels])
    return histogram_entropy(counts) / math.log(2.0)


def mutual_information(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Mutual information (MI) of the fused image with both sources; higher is better.

    MI = MI(fused, ir) + MI(fused, vis), each sum p(x, y) ln(p(x, y) / (p(x) p(y))) over the
    256 x 256 joint histogram. Range 0 to 2 ln 256 = 11.09 nats; 0 where fused is constant, and a
    constant source adds 0. With ir = vis = fused it is twice the entropy in nats.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64 in nats.

    Reference:
        Qu, Zhang and Yan, Electronics Letters 38(7):313-315, 2002.
    Variant:
        Natural logarithm, as the CDDFuse family's evaluator (scikit-learn). VIFB and others use
        bits, 1.4427 times as much, and some halve the sum or normalise by the entropies.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("mutual_information", ir=ir, vis=vis, fused=fused)
    histograms = (
        joint_histogram(round_levels(ir), round_levels(fused)),
        joint_histogram(round_levels(vis), round_levels(fused)),
    )
    return information_from_histograms(*histograms)[1]
