"""Contrast of the fused image alone: SD, SF and AG.

Shapes: fused (B, 1, H, W) grey levels in [0, 255]; each metric (B,) float64 in grey levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.images import centred, check_images


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
        ValueError: fused is not as said.
    """
    check_images("standard_deviation", fused=fused)
    return centred(fused).var(dim=(1, 2, 3), correction=0).sqrt()


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
        ValueError: fused is not as said.
    """
    check_images("spatial_frequency", fused=fused)
    image = fused.double()
    row_ms = image.diff(dim=3).square().mean(dim=(1, 2, 3))
    column_ms = image.diff(dim=2).square().mean(dim=(1, 2, 3))
    return torch.sqrt(row_ms + column_ms)


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
        ValueError: fused is not as said.
    """
    check_images("average_gradient", fused=fused)
    image = fused.double()
    # twice the gradient, so that only the border needs a product
    gx2, gy2 = torch.empty_like(image), torch.empty_like(image)
    torch.sub(image[..., 2:], image[..., :-2], out=gx2[..., 1:-1])
    gx2[..., 0] = 2 * (image[..., 1] - image[..., 0])
    gx2[..., -1] = 2 * (image[..., -1] - image[..., -2])
    torch.sub(image[..., 2:, :], image[..., :-2, :], out=gy2[..., 1:-1, :])
    gy2[..., 0, :] = 2 * (image[..., 1, :] - image[..., 0, :])
    gy2[..., -1, :] = 2 * (image[..., -1, :] - image[..., -2, :])
    out: Tensor = gx2.square_().addcmul_(gy2, gy2).sqrt_().mean(dim=(1, 2, 3)) / 8.0**0.5
    return out
