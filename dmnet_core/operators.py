"""Operators on images that the losses are made of: structural similarity and gradients.

Shapes: every image is (B, 1, H, W) float32 luminance in [0, 1].
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


def sobel(image: Tensor) -> Tensor:
    """Return gx and gy of the 3 x 3 Sobel operator, (B, 2, H, W), with replicated borders."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([kernel, kernel.t()])[:, None]  # (2, 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)


def laplacian_magnitude(image: Tensor) -> Tensor:
    """Return the absolute difference of each pixel's four neighbours' sum and four times the pixel."""
    framed = F.pad(image, (1, 1, 1, 1), mode="replicate")
    beside = framed[..., 1:-1, :-2] + framed[..., 1:-1, 2:]
    above = framed[..., :-2, 1:-1] + framed[..., 2:, 1:-1]
    return (beside + above - 4 * image).abs()


def sobel_magnitude(image: Tensor) -> Tensor:
    """Return |gx| + |gy| of the 3 x 3 Sobel operator, (B, 1, H, W), with replicated borders.

    Ours: the sum of absolute values, whose derivative is bounded where the gradient vanishes.
    """
    return sobel(image).abs().sum(dim=1, keepdim=True)


def roberts_magnitude(image: Tensor) -> Tensor:
    """Return the absolute differences along both diagonals of 2 x 2 pixels, (B, 1, H, W)."""
    padded = F.pad(image, (0, 1, 0, 1), mode="replicate")
    falling = padded[..., :-1, :-1] - padded[..., 1:, 1:]
    rising = padded[..., :-1, 1:] - padded[..., 1:, :-1]
    return falling.abs() + rising.abs()


def log_magnitude(image: Tensor) -> Tensor:
    """Return the absolute Laplacian of Gaussian, (B, 1, H, W): 9 x 9, sigma 1.4, sum zero."""
    offsets = torch.arange(9, device=image.device, dtype=image.dtype) - 4
    squares = offsets[:, None] ** 2 + offsets[None, :] ** 2
    variance = 1.4**2
    kernel = (squares / (2 * variance) - 1) * torch.exp(-squares / (2 * variance))
    kernel = (kernel - kernel.mean()) / kernel.abs().sum()
    return F.conv2d(F.pad(image, (4, 4, 4, 4), mode="replicate"), kernel[None, None]).abs()


def canny_magnitude(image: Tensor) -> Tensor:
    """Return Canny's edges with their strength, (B, 1, H, W), zero elsewhere.

    Gaussian smoothing (5 x 5, sigma 1.4), Sobel, and the pixels that are the strongest along their
    gradient and above a tenth of the image's maximum. Ours: an edge keeps its strength, and the choice
    of edge pixels is not differentiated, so that the loss has a derivative.

    Reference: Canny, IEEE Trans. Pattern Anal. Mach. Intell. 8(6), 1986.
    """
    offsets = torch.arange(5, device=image.device, dtype=image.dtype) - 2
    window = torch.exp(-(offsets**2) / (2 * 1.4**2))
    window = window / window.sum()
    smooth = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), window.view(1, 1, 5, 1))
    gradient = sobel(F.conv2d(smooth, window.view(1, 1, 1, 5)))
    strength = gradient.abs().sum(dim=1, keepdim=True)
    with torch.no_grad():
        around = F.pad(strength, (1, 1, 1, 1))
        shifted = {
            (dy, dx): around[..., 1 + dy : around.shape[2] - 1 + dy, 1 + dx : around.shape[3] - 1 + dx]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        }
        dx, dy = gradient[:, :1], gradient[:, 1:]
        steep, flat = dy.abs() > 2.4142 * dx.abs(), dy.abs() < 0.4142 * dx.abs()  # tan of 67.5, 22.5
        along = dx * dy <= 0  # which diagonal
        neighbours = [
            torch.where(
                steep,
                shifted[(sign, 0)],
                torch.where(
                    flat,
                    shifted[(0, sign)],
                    torch.where(along, shifted[(sign, -sign)], shifted[(sign, sign)]),
                ),
            )
            for sign in (-1, 1)
        ]
        strongest = (strength >= neighbours[0]) & (strength >= neighbours[1])
        strongest &= strength > 0.1 * strength.amax(dim=(2, 3), keepdim=True)
    return strength * strongest


OPERATORS = {
    "sobel": sobel_magnitude,
    "canny": canny_magnitude,
    "log": log_magnitude,
    "roberts": roberts_magnitude,
}
"""Gradient operators that L_gd can use, by name."""
