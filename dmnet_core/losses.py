"""Losses of the two training stages.

Paper: DMNet eq. (13) to (19).

Shapes: every image is (B, 1, H, W) float32 luminance in [0, 1]; every loss is a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model import DMNet
from dmnet_core.operators import OPERATORS, sobel, ssim
from dmnet_core.terms import TERMS, guard


def reconstruction_loss(image: Tensor, restored: Tensor, mu: float) -> Tensor:
    """Return L_x = mean squared error + mu * (1 - SSIM), eq. (14) to (16)."""
    return F.mse_loss(restored, image) + mu * (1.0 - ssim(restored, image))


def noise_loss(noise: Tensor, predicted: Tensor) -> Tensor:
    """Return L_dm, the mean squared error of the predicted noise, eq. (17)."""
    return F.mse_loss(predicted, noise)


def intensity_loss(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Return L_int, the mean absolute distance to the brighter source, below eq. (18)."""
    return F.l1_loss(fused, torch.maximum(ir, vis))


def gradient_loss(
    ir: Tensor,
    vis: Tensor,
    fused: Tensor,
    operator: str = "sobel",
    *,
    guarded: bool = False,
    gain: float = 1.0,
    directed: bool = False,
) -> Tensor:
    """Return L_gd, the mean absolute distance to the stronger source gradient, eq. (19).

    Args:
        ir: (B, 1, H, W) in [0, 1].
        vis: the same shape.
        fused: the same shape.
        operator: one of OPERATORS; Table VI of the paper compares them.
        guarded: whether the noise of the darker side is left out of the stronger gradient; see
            `dmnet_core.terms.guard`. The paper's loss has no such guard.
        gain: factor of the stronger gradient; the paper's is 1.
        directed: whether both components of Sobel's gradient are asked for and not its strength alone, so
            that an edge rises to the side to which it does in its source. The paper's loss has strengths.
    """
    edges = sobel if directed else OPERATORS[operator]
    of_ir, of_vis = edges(ir), edges(vis)
    if guarded:
        weight_ir, weight_vis = guard(ir, vis)
        of_ir, of_vis = weight_ir * of_ir, weight_vis * of_vis
    strength_ir, strength_vis = (of.abs().sum(dim=1, keepdim=True) for of in (of_ir, of_vis))
    stronger = torch.where(strength_ir > strength_vis, of_ir, of_vis)
    return (edges(fused) - gain * stronger).abs().sum(dim=1).mean()


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the losses, and the gradient operator."""

    mu: float = 5.0
    """Weight of 1 - SSIM in stage I, eq. (14)."""
    lambda1: float = 1.0
    """Weight of the infrared reconstruction in stage I, eq. (13)."""
    lambda2: float = 10.0
    """Weight of L_gd in stage II, eq. (18)."""
    lambda0: float = 1.0
    """Weight of L_int in stage II; 1 in eq. (18)."""
    operator: str = "sobel"
    """Gradient operator of L_gd: one of OPERATORS."""
    guarded: bool = False
    """Whether L_gd leaves the noise of the darker side out; see `gradient_loss`."""
    gain: float = 1.0
    """Factor of the stronger source gradient that L_gd asks for; 1 in eq. (19)."""
    directed: bool = False
    """Whether L_gd asks for the gradient's direction too; see `gradient_loss`."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Weight of each term of TERMS that joins stage II, by its name; the paper has none."""


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
    lambda2 L_gd, eq. (18), with L_int weighted by lambda0, and the terms of `dmnet_core.terms` that have
    a weight. A network without DM has no L_dm.
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
            parts["L_gd"] = gradient_loss(
                ir, vis, fused, weights.operator,
                guarded=weights.guarded, gain=weights.gain, directed=weights.directed,
            )  # fmt: skip
            total = weights.lambda0 * parts["L_int"] + weights.lambda2 * parts["L_gd"]
            for name, weight in weights.terms.items():
                parts[f"L_{name}"] = TERMS[name](ir, vis, fused)
                total = total + weight * parts[f"L_{name}"]
        if self.model.predicts_noise:
            with half:
                predicted = self.model.predict_noise(ir, vis, draw.t, draw.target_noise)
            parts["L_dm"] = noise_loss(draw.target_noise, predicted.float())
            total = total + parts["L_dm"]
        return {"total": total, **parts}
