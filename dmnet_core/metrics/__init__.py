"""Fusion metrics: how well a fused image holds what its two sources show.

    from dmnet_core.metrics import fusion_metrics
    values = fusion_metrics(ir, vis, fused)["SF"]

All take (B, 1, H, W) grey levels in [0, 255] and give (B,) float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.contrast import (
    average_gradient,
    spatial_frequency,
    standard_deviation,
)
from dmnet_core.metrics.correlation import (
    correlation_coefficient,
    correlations,
    sum_of_correlations_of_differences,
)
from dmnet_core.metrics.images import centred, check_images, to_levels
from dmnet_core.metrics.information import (
    entropy,
    information_from_histograms,
    joint_histogram,
    mutual_information,
)
from dmnet_core.metrics.qabf import edge_preservation, edge_preservation_of
from dmnet_core.metrics.structure import (
    joint_ms_ssim,
    joint_ms_ssim_of,
    wang_ms_ssim,
    wang_ms_ssim_of,
)
from dmnet_core.metrics.vif import vif_of_fields, visual_information_fidelity

METRICS = (
    "EN", "SD", "SF", "AG", "MI", "CC", "SCD", "VIF", "Qabf", "MS-SSIM", "MS-SSIM-Wang",
)  # fmt: skip
"""The columns of every table, in this order."""

__all__ = [
    "METRICS",
    "average_gradient",
    "correlation_coefficient",
    "edge_preservation",
    "entropy",
    "fusion_metrics",
    "joint_ms_ssim",
    "mutual_information",
    "spatial_frequency",
    "standard_deviation",
    "sum_of_correlations_of_differences",
    "visual_information_fidelity",
    "wang_ms_ssim",
]


def fusion_metrics(ir: Tensor, vis: Tensor, fused: Tensor) -> dict[str, Tensor]:
    """Return every metric of METRICS, sharing the work that several of them need.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255], rounded to whole levels before anything else.
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64 by abbreviation.

    Raises:
        ValueError: an image is not as said.
    """
    check_images("fusion_metrics", ir=ir, vis=vis, fused=fused)
    ir, vis, fused = to_levels(ir), to_levels(vis), to_levels(fused)
    batch, _, height, width = ir.shape
    entropy_bits, information = information_from_histograms(
        joint_histogram(ir, fused), joint_histogram(vis, fused)
    )
    cc, scd, sd = correlations(ir, vis, fused)
    fields = torch.stack([ir, vis, fused]).view(3 * batch, height, width)
    fields = fields.transpose(0, 1).contiguous()  # (H, 3 B, W)
    values = {
        "EN": entropy_bits,
        "SD": sd,
        "SF": spatial_frequency(fused),
        "AG": average_gradient(fused),
        "MI": information,
        "CC": cc,
        "SCD": scd,
        "VIF": vif_of_fields(torch.cat([centred(ir), centred(vis), centred(fused)], dim=1)),
        "Qabf": edge_preservation_of(torch.cat([ir, vis, fused], dim=1)),
        "MS-SSIM": joint_ms_ssim_of(fields, batch),
        "MS-SSIM-Wang": wang_ms_ssim_of(fields, batch),
    }
    assert tuple(values) == METRICS
    return values
