"""Diffusion module (DM): the latent map L from U-Net features at several noise steps.

Paper: DMNet eq. (3) to (9): features of the five expanding stages at t = 5, 50 and 100, brought to
full resolution and fused to the latent map.
Ours: the steps are averaged with learned weights a stage, and the stages are joined top down, each by
a 3 x 3 convolution that brings the width to the next finer stage's before the upsampling.

Shapes: z_0 (B, 2, H, W) clean input; noise (B, S, 2, H, W) standard normal, S the number of steps,
    H and W in DM's own resolution (the image's over dm_stride).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.diffusion import ForwardNoising
from dmnet_core.model.unet import UNet


class DM(nn.Module):
    """U-Net, noise schedule and the head that makes the latent map."""

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__()
        widths = [config.unet_base * m for m in reversed(config.unet_multipliers)]
        self.stride = config.dm_stride // config.unshuffle  # over that of the feature maps
        self.steps = config.feature_steps
        self.unet = UNet(config)
        self.noising = ForwardNoising(config.num_noise_steps)
        self.step_logits = nn.Parameter(torch.zeros(len(widths), len(self.steps)))
        self.head = nn.ModuleList(
            nn.Conv2d(width, following, 3, padding=1)
            for width, following in zip(widths, [*widths[1:], config.dim], strict=True)
        )

    def predict_noise(self, z_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return eps_theta of z_0 noised to t with noise (B, 2, H, W), DMNet eq. (17)."""
        predicted: Tensor = self.unet(self.noising(z_0, t, noise), t)
        return predicted

    def forward(self, z_0: Tensor, noise: Tensor) -> Tensor:
        """Return the latent map (B, dim, H * stride, W * stride)."""
        weights = self.step_logits.softmax(dim=1)  # (stages, S)
        batch, num_steps = len(z_0), len(self.steps)
        # Training crops take all steps in one pass; for large images one step at a time fits the cache.
        groups = [range(num_steps)] if self.training else [range(i, i + 1) for i in range(num_steps)]
        stages: list[Tensor] = []
        for group in groups:
            t = torch.tensor([self.steps[i] for i in group], device=z_0.device)
            t = t.repeat_interleave(batch)  # (len(group) * B,)
            noised = self.noising(
                z_0.repeat(len(group), 1, 1, 1), t, torch.cat([noise[:, i] for i in group])
            )
            for stage, features in enumerate(self.unet.features(noised, t)):
                of_step = features.unflatten(0, (len(group), batch))  # (len(group), B, C, h, w)
                for i, feature in zip(group, of_step, strict=True):
                    weighted = weights[stage, i] * feature
                    if i == 0:
                        stages.append(weighted)
                    else:
                        stages[stage] = stages[stage] + weighted
        latent = self.head[0](stages[0])
        for conv, stage_map in zip(list(self.head)[1:], stages[1:], strict=True):
            latent = conv(F.interpolate(F.silu(latent), scale_factor=2.0) + stage_map)
        if self.stride > 1:
            latent = F.interpolate(
                latent, scale_factor=float(self.stride), mode="bilinear", align_corners=False
            )
        out: Tensor = latent
        return out
