"""Losses of the two training stages.

Paper: DMNet eq. (13) to (19).

Shapes: every image is (B, 1, H, W) float32 luminance in [0, 1]; every loss is a scalar.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model import DMNet

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


def gradient_loss(ir: Tensor, vis: Tensor, fused: Tensor, operator: str = "sobel") -> Tensor:
    """Return L_gd, the mean absolute distance to the stronger source gradient, eq. (19).

    Args:
        ir: (B, 1, H, W) in [0, 1].
        vis: the same shape.
        fused: the same shape.
        operator: one of OPERATORS; Table VI of the paper compares them.
    """
    edges = OPERATORS[operator]
    return F.l1_loss(edges(fused), torch.maximum(edges(ir), edges(vis)))


def sobel_magnitude(image: Tensor) -> Tensor:
    """Return |gx| + |gy| of the 3 x 3 Sobel operator, (B, 1, H, W), with replicated borders.

    Ours: the sum of absolute values, whose derivative is bounded where the gradient vanishes.
    """
    return _sobel(image).abs().sum(dim=1, keepdim=True)


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
    gradient = _sobel(F.conv2d(smooth, window.view(1, 1, 1, 5)))
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
        along = torch.where(dx * dy > 0, 0.0, 1.0) > 0  # which diagonal
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


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the losses, and the gradient operator."""

    mu: float = 5.0
    """Weight of 1 - SSIM in stage I, eq. (14)."""
    lambda1: float = 1.0
    """Weight of the infrared reconstruction in stage I, eq. (13)."""
    lambda2: float = 10.0
    """Weight of L_gd in stage II, eq. (18)."""
    operator: str = "sobel"
    """Gradient operator of L_gd: one of OPERATORS."""


@dataclass(frozen=True)
class NoiseDraw:
    """The noise and noise steps that one training step draws; h and w are in DM's resolution."""

    latent_noise: Tensor
    """(B, S, 2, h, w) standard normal; noises DM's input at each of the S feature steps."""
    target_noise: Tensor
    """(B, 2, h, w) standard normal; the noise that DM must predict, eq. (17)."""
    t: Tensor
    """(B,) int64 noise step, in [0, T), at which DM must predict target_noise."""

    @classmethod
    def draw(cls, model: DMNet, images: Tensor, generator: torch.Generator) -> NoiseDraw:
        """Draw for (B, 1, H, W) images on the CPU, so that all devices use the same numbers."""
        batch, _, height, width = images.shape
        shape = model.noise_shape(height, width)
        return cls(
            torch.randn(batch, *shape, generator=generator).to(images.device),
            torch.randn(batch, *shape[1:], generator=generator).to(images.device),
            torch.randint(model.config.num_noise_steps, (batch,), generator=generator).to(images.device),
        )


class StageLoss(nn.Module):
    """A network with its loss: one forward pass gives the losses of a stage by name.

    Stage 1: total = L_vi + lambda1 L_ir + L_dm, eq. (13), (17). Stage 2: total = L_int + L_dm +
    lambda2 L_gd, eq. (18). A network without DM has no L_dm.
    """

    def __init__(self, model: DMNet, weights: LossWeights, *, bf16: bool = False) -> None:
        """Wrap a network.

        Args:
            model: the network; its parameters are not changed.
            weights: weights of the terms of the losses.
            bf16: whether the network runs in bfloat16. The losses are computed in float32 regardless,
                since SSIM subtracts squares that are nearly equal.
        """
        super().__init__()
        self.model = model
        self.weights = weights
        self.bf16 = bf16

    def forward(self, stage: int, ir: Tensor, vis: Tensor, draw: NoiseDraw) -> dict[str, Tensor]:
        """Return the scalar losses of a stage by name, `total` first.

        Args:
            stage: 1 or 2.
            ir: (B, 1, H, W) float32 luminance in [0, 1].
            vis: the same shape and range.
            draw: noise for this batch.
        """
        weights = self.weights
        parts = {}
        half = torch.autocast(ir.device.type, torch.bfloat16, enabled=self.bf16)
        if stage == 1:
            with half:
                restored_vis, restored_ir = self.model.reconstruct(vis), self.model.reconstruct(ir)
            parts["L_vi"] = reconstruction_loss(vis, restored_vis.float(), weights.mu)
            parts["L_ir"] = reconstruction_loss(ir, restored_ir.float(), weights.mu)
            total = parts["L_vi"] + weights.lambda1 * parts["L_ir"]
        else:
            with half:
                fused = self.model(ir, vis, draw.latent_noise)
            fused = fused.float()
            parts["L_int"] = intensity_loss(ir, vis, fused)
            parts["L_gd"] = gradient_loss(ir, vis, fused, weights.operator)
            total = parts["L_int"] + weights.lambda2 * parts["L_gd"]
        if self.model.predicts_noise:
            with half:
                predicted = self.model.predict_noise(ir, vis, draw.t, draw.target_noise)
            parts["L_dm"] = noise_loss(draw.target_noise, predicted.float())
            total = total + parts["L_dm"]
        return {"total": total, **parts}


def _sobel(image: Tensor) -> Tensor:
    """Return gx and gy of the 3 x 3 Sobel operator, (B, 2, H, W), with replicated borders."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([kernel, kernel.t()])[:, None]  # (2, 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)
