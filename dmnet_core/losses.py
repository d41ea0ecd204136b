"""Losses of the two training stages.

Paper: DMNet eq. (13) to (19).

Shapes: every image is (B, 1, H, W) float32 luminance in [0, 1]; every loss is a scalar.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Return the mean structural similarity of two images, at most 1.

    Reference: Wang et al., IEEE Trans. Image Process. 13(4), 2004; 11 x 11 Gaussian window, sigma
    1.5, K1 = 0.01, K2 = 0.03, range 1, only windows that fit.
    """
    offsets = torch.arange(SSIM_WINDOW, device=image.device) - SSIM_WINDOW // 2
    window = torch.exp(-(offsets.float() ** 2) / (2 * SSIM_SIGMA**2))
    window = window / window.sum()
    moments = torch.cat(
        [image, reference, image * image, reference * reference, image * reference]
    )  # (5 B, 1, H, W)
    rows = F.conv2d(moments, window.view(1, 1, -1, 1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = F.conv2d(rows, window.view(1, 1, 1, -1)).chunk(5)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    covariance = mean_xy - mean_x * mean_y
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean()


def reconstruction_loss(image: Tensor, restored: Tensor, mu: float) -> Tensor:
    """Return L_x = mean squared error + mu * (1 - SSIM), eq. (14) to (16)."""
    return F.mse_loss(restored, image) + mu * (1.0 - ssim(restored, image))


def noise_loss(noise: Tensor, predicted: Tensor) -> Tensor:
    """Return L_dm, the mean squared error of the predicted noise, eq. (17)."""
    return F.mse_loss(predicted, noise)


def intensity_loss(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return L_int, the mean absolute distance to the brighter source, below eq. (18)."""
    return F.l1_loss(fused, torch.maximum(ir, vis))


def gradient_loss(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return L_gd, the mean absolute distance to the stronger source gradient, eq. (19)."""
    strongest = torch.maximum(sobel_magnitude(ir), sobel_magnitude(vis))
    return F.l1_loss(sobel_magnitude(fused), strongest)


def sobel_magnitude(image: Tensor) -> Tensor:
    """Return |gx| + |gy| of the 3 x 3 Sobel operator, (B, 1, H, W), edges repeated.

    Ours: the sum of absolute values, whose slope is bounded where the gradient vanishes.
    """
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([kernel, kernel.t()])[:, None]  # (2, 1, 3, 3)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernels).abs().sum(dim=1, keepdim=True)
