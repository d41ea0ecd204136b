"""Terms that may join the losses of stage II beside the paper's, and the guard of its gradient loss.

Ours, all of them. docs/training.md says what each asks for and what `benchmarks/ablations.py --of terms`
measured.

Shapes: every image is (B, 1, H, W) float32 luminance in [0, 1]; every term is a scalar, 0 at its best.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dmnet_core.operators import laplacian_magnitude, sobel, sobel_magnitude, ssim

TAKEN, SOFT_TAKEN = -20.0 / 255, 8.0 / 255
"""Level over that of the other side from which on a side counts as taken, and the threshold's width."""
STRONG, SOFT_STRONG = 48.0 / 255, 12.0 / 255
"""Root mean square of Sobel's gradient that counts as structure, and the threshold's width."""
CLEAR_LEVEL, SOFT_CLEAR_LEVEL = 180.0 / 255, 10.0 / 255
"""Visible level from which on a smooth part counts as clear sky, and the threshold's width."""
SMOOTH, SOFT_SMOOTH = 3.0 / 255, 0.5 / 255
"""Mean absolute Laplacian below which the visible image is smooth, and the threshold's width."""
DARK_POWER = 8
"""How fast the weight of dark pixels falls with the level of the larger source."""


def differences_term(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return 2 - SCD: the fused image without one source should look like the other.

    Reference: Aslantas and Bendes, AEU Int. J. Electron. Commun. 69(12), 2015.
    """
    return 2.0 - _correlation(fused - vis, ir) - _correlation(fused - ir, vis)


def structure_term(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return 2 - SSIM(F, I_ir) - SSIM(F, I_vis)."""
    return 2.0 - ssim(fused, ir) - ssim(fused, vis)


def edges_term(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return 1 - the share of both sources' edges that the fused image keeps, strength and direction.

    Reference: Xydeas and Petrovic, Electronics Letters 36(4), 2000: the sigmoids, without the factors.
    """
    kept, total = fused.new_zeros(()), fused.new_zeros(())
    slopes = sobel(fused)
    strength = slopes.square().sum(dim=1, keepdim=True).add(1e-8).sqrt()
    for source in (ir, vis):
        own = sobel(source)
        weight = own.square().sum(dim=1, keepdim=True).add(1e-8).sqrt()
        ratio = torch.minimum(weight, strength) / torch.maximum(weight, strength)
        cosine = (own * slopes).sum(dim=1, keepdim=True).abs() / (weight * strength)
        angle = torch.acos(cosine.clamp(max=1 - 1e-4)) / (math.pi / 2)
        preserved = torch.sigmoid(15 * (ratio - 0.5)) * torch.sigmoid(22 * (0.2 - angle))
        kept = kept + (weight * preserved).sum()
        total = total + weight.sum()
    return 1.0 - kept / total


def clear_term(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return how far a clear bright sky of the visible image is from being left as it is.

    That is the mean, over all pixels, of the difference of levels and of the Sobel gradient above the
    visible image's, both where the visible image is bright and smooth.
    """
    smooth = torch.sigmoid((SMOOTH - _around(laplacian_magnitude(vis), 9)) / SOFT_SMOOTH)
    clear = smooth * torch.sigmoid((vis - CLEAR_LEVEL) / SOFT_CLEAR_LEVEL)
    rougher = (sobel_magnitude(fused) - sobel_magnitude(vis)).relu()
    return (clear * (rougher + (fused - vis).abs())).mean()


def dark_term(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return by how much the fused image lies above both sources, weighted by how dark these are."""
    larger = torch.maximum(ir, vis)
    return ((fused - larger).relu() * (1.0 - larger) ** DARK_POWER).mean()


Term = Callable[[Tensor, Tensor, Tensor], Tensor]
TERMS: dict[str, Term] = {
    "differences": differences_term,
    "structure": structure_term,
    "edges": edges_term,
    "clear": clear_term,
    "dark": dark_term,
}
"""Each term by its name."""


def guard(ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much the infrared's and the visible image's gradients count, (B, 1, H, W) in [0, 1].

    The larger gradient of the two sides, which eq. (19) asks for, is one side's noise wherever the other
    is smooth. So a side's gradient counts where its level is taken (not far below the other's), where it
    is strong, or where it has one direction: noise in the darker side has none of these.
    """
    lead = _around(ir, 5) - _around(vis, 5)
    weights = []
    for image, ahead in ((ir, lead), (vis, -lead)):
        dx, dy = sobel(image).split(1, dim=1)
        xx, yy, xy = (_around(product, 5) for product in (dx * dx, dy * dy, dx * dy))
        directed = ((xx - yy).square() + 4 * xy.square()) / (xx + yy + 1e-6).square()
        strong = torch.sigmoid(((xx + yy).sqrt() - STRONG) / SOFT_STRONG)
        taken = torch.sigmoid((ahead - TAKEN) / SOFT_TAKEN)
        weights.append(1.0 - (1.0 - taken) * (1.0 - strong) * (1.0 - directed))
    return weights[0], weights[1]


def _around(image: Tensor, side: int) -> Tensor:
    """Return the mean over the square around each pixel, with replicated borders."""
    return F.avg_pool2d(F.pad(image, (side // 2,) * 4, mode="replicate"), side, stride=1)


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return Pearson's coefficient of two (B, 1, H, W) images, the mean over the batch."""
    one, other = (image - image.mean(dim=(1, 2, 3), keepdim=True) for image in (one, other))
    covariance, *variances = (
        (a * b).mean(dim=(1, 2, 3)) for a, b in ((one, other), (one, one), (other, other))
    )
    return (covariance / (variances[0] * variances[1] + 1e-6).sqrt()).mean()
