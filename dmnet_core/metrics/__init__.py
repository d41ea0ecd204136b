"""Fusion metrics: how well a fused image holds what its two sources show.

    from dmnet_core.metrics import fusion_metrics
    values = fusion_metrics(ir, vis, fused)["SF"]

All take (B, 1, H, W) grey levels in [0, 255] and give (B,) float64.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmnet_core.metrics.contrast import (
    ag_of,
    ag_statistics,
    average_gradient,
    sf_of,
    sf_statistics,
    spatial_frequency,
    standard_deviation,
)
from dmnet_core.metrics.correlation import (
    cc_of,
    correlation_coefficient,
    moments,
    scd_of,
    sd_of,
    sum_of_correlations_of_differences,
)
from dmnet_core.metrics.images import check_images, check_valid, round_levels
from dmnet_core.metrics.information import (
    entropy,
    information_from_histograms,
    joint_histogram,
    mutual_information,
)
from dmnet_core.metrics.qabf import edge_preservation, qabf_of, qabf_statistics
from dmnet_core.metrics.structure import (
    joint_ms_ssim,
    joint_of,
    structure_statistics,
    wang_ms_ssim,
    wang_of,
)
from dmnet_core.metrics.vif import vif_of, vif_statistics, visual_information_fidelity
from dmnet_core.metrics.windows import core_of
from dmnet_core.window import HALO, Span, Window, cut

Statistics = dict[str, Tensor]
"""Sums over the core of a window, (B, ...) float64 or int64, by name; those of two windows add up."""

DAMAGED = (
    ValueError, TypeError, KeyError, SyntaxError, EOFError, OSError, MemoryError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors that NumPy raises on the bytes of a damaged .npz file."""
METRICS = (
    "EN", "SD", "SF", "AG", "MI", "CC", "SCD", "VIF", "Qabf", "MS-SSIM", "MS-SSIM-Wang",
)  # fmt: skip
"""Abbreviations of all metrics, in the order of the columns of every table."""

__all__ = [
    "HALO",
    "METRICS",
    "Window",
    "Span",
    "Statistics",
    "average_gradient",
    "correlation_coefficient",
    "cut",
    "edge_preservation",
    "entropy",
    "fusion_metrics",
    "fusion_statistics",
    "joint_ms_ssim",
    "merge",
    "pack_statistics",
    "unpack_statistics",
    "mutual_information",
    "spatial_frequency",
    "standard_deviation",
    "sum_of_correlations_of_differences",
    "visual_information_fidelity",
    "wang_ms_ssim",
]


def fusion_metrics(
    ir: Tensor, vis: Tensor, fused: Tensor, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Return every metric of METRICS, sharing the work that several of them need.

    Pixels that are not valid take no part: neither do differences, neighbourhoods and filter positions
    with such a pixel, and at the scales after the first, pixels made of one. Where nothing is left of
    an image, its VIF is 2 (a source without variance adds 1) and each of its other metrics is 0.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255]; they are rounded to integers first.
        vis: the same shape.
        fused: the same shape.
        valid: (B, 1, H, W) bool, True where both sources have data; None where all pixels do.

    Returns:
        (B,) float64 by abbreviation, on the device of the images.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    return merge([fusion_statistics(ir, vis, fused, valid=valid)])


def fusion_statistics(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    window: Window | None = None,
    valid: Tensor | None = None,
) -> Statistics:
    """Return the sums over one window from which `merge` computes the metrics.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255] of the window with its halo.
        vis: the same shape.
        fused: the same shape.
        window: what the arrays cover of their image; None where they are the image.
        valid: (B, 1, H, W) bool of the window with its halo, True where both sources have data; None
            where all pixels do.

    Returns:
        (B, ...) float64 or int64 sums over the window's core, by name.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above, or the halo is too narrow.
    """
    check_images("fusion_metrics", ir=ir, vis=vis, fused=fused)
    if valid is not None:
        check_valid("fusion_metrics", valid, ir)
    window = window or Window.of_image(*ir.shape[2:])
    shape = (window.rows.stop - window.rows.start, window.columns.stop - window.columns.start)
    if shape != tuple(ir.shape[2:]):
        raise ValueError(
            f"fusion_statistics: the images are {tuple(ir.shape[2:])} and their window is {shape} "
            "pixels (height, width), expected the same: give the window of the array with its halo"
        )
    levels = [round_levels(image) for image in (ir, vis, fused)]
    cores = [core_of(image, window) for image in levels]
    images = torch.cat([levels[2], *levels[:2]])[:, 0]  # (3 B, H, W)
    mask = None if valid is None else valid.float()
    core_mask = None if mask is None else core_of(mask, window)
    plane = None if mask is None else mask[:, 0]  # (B, H, W)
    joint, wang = structure_statistics(images, window, plane)
    return {
        "ir_fused": joint_histogram(cores[0], cores[2], core_mask),
        "vis_fused": joint_histogram(cores[1], cores[2], core_mask),
        "moments": moments(cores[0], cores[1], cores[2], core_mask),
        "SF": sf_statistics(levels[2], window, mask),
        "AG": ag_statistics(levels[2], window, mask),
        "VIF": vif_statistics(images, window, plane),
        "Qabf": qabf_statistics(torch.cat(levels, dim=1), window, mask),
        "MS-SSIM": joint,
        "MS-SSIM-Wang": wang,
    }


def pack_statistics(statistics: Statistics) -> bytes:
    """Return statistics as the bytes of a compressed .npz file: joint histograms are mostly zeros."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in statistics.items()}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def unpack_statistics(data: bytes) -> Statistics:
    """Return the statistics of bytes that `pack_statistics` wrote; nothing is unpickled.

    Raises:
        ValueError: the bytes are no such file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except DAMAGED as error:
        raise ValueError(
            f"{len(data)} bytes are no statistics of a window ({error!r}), expected those that "
            "pack_statistics wrote: score the window again"
        ) from error


def merge(parts: Iterable[Statistics]) -> dict[str, Tensor]:
    """Return every metric of METRICS of whole images from the statistics of their windows.

    Where the cores tile the image and the halos are HALO wide, the values are those of the image in one
    piece, apart from rounding in another order of summation.

    Args:
        parts: what `fusion_statistics` returned for each window, at least one; no more than one of
            them is held at a time.

    Returns:
        (B,) float64 by abbreviation.
    """
    sums: Statistics = {}
    for part in parts:
        sums = {name: sums[name] + value for name, value in part.items()} if sums else part
    entropy_bits, information = information_from_histograms(sums["ir_fused"], sums["vis_fused"])
    values = {
        "EN": entropy_bits,
        "SD": sd_of(sums["moments"]),
        "SF": sf_of(sums["SF"]),
        "AG": ag_of(sums["AG"]),
        "MI": information,
        "CC": cc_of(sums["moments"]),
        "SCD": scd_of(sums["moments"]),
        "VIF": vif_of(sums["VIF"]),
        "Qabf": qabf_of(sums["Qabf"]),
        "MS-SSIM": joint_of(sums["MS-SSIM"]),
        "MS-SSIM-Wang": wang_of(sums["MS-SSIM-Wang"]),
    }
    assert tuple(values) == METRICS
    return values
