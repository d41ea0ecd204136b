"""The U-Net of the diffusion module (DM): predicts the noise, and lends its features.

Paper: DMNet eq. (7) to (9), (17); an SR3-style U-Net.
Basis: SR3 (Saharia et al., 2021, arXiv:2104.07636): residual blocks with group normalisation and a
step embedding, attention in the middle only, skips from every contracting block.
Ours: the features are the last block of each expanding stage (five in all).

Shapes: z_t (B, 2, H, W) with H and W multiples of 2^(stages - 1); t (B,) int64.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.statistics import image_wide


class GroupNorm(nn.GroupNorm):
    """Group normalisation, over the pixels of the image or of its scene."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) with zero mean and unit variance a group, then scaled."""
        scene = image_wide(self)
        if scene is None:
            return super().forward(x)
        mean, square = (
            moment.unflatten(1, (self.num_groups, -1)).mean(dim=2).repeat_interleave(
                self.num_channels // self.num_groups, dim=1
            )
            for moment in (scene.mean(x), scene.square(x))
        )  # (1, C)
        # rounding may leave a variance of 0 slightly negative
        scale = self.weight * (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        out: Tensor = x * scale[:, :, None, None] + (self.bias - mean * scale)[:, :, None, None]
        return out


class ResidualBlock(nn.Module):
    """Two normalised convolutions with the step's embedding added between them."""

    def __init__(self, in_channels: int, out_channels: int, embed_dim: int, groups: int) -> None:
        super().__init__()
        self.norm_in = GroupNorm(groups, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embed = nn.Linear(embed_dim, out_channels)
        self.norm_out = GroupNorm(groups, out_channels)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip: nn.Module = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, in, H, W) and (B, embed_dim) to (B, out, H, W)."""
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = hidden + self.embed(embedding)[:, :, None, None]
        out: Tensor = self.conv_out(F.silu(self.norm_out(hidden))) + self.skip(x)
        return out


class PixelAttention(nn.Module):
    """Self-attention between the pixels of the coarsest stage, one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        batch, channels, height, width = x.shape
        maps = self.qkv(self.norm(x)).chunk(3, dim=1)
        query, key, value = (
            part.reshape(batch, 1, channels, height * width).transpose(2, 3) for part in maps
        )  # (B, 1, H*W, C)
        scene = image_wide(self)
        if scene is not None:
            key, value = (
                pixels.to(query.dtype).expand(batch, 1, -1, -1)
                for pixels in (scene.key(maps[1]), scene.value(maps[2]))
            )  # (B, 1, N, C)
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.project(attended.transpose(2, 3).reshape(batch, channels, height, width))
        return out


class UNet(nn.Module):
    """Noise predictor eps_theta(z_t, t) with its expanding features."""

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__()
        base, groups, blocks = config.unet_base, config.unet_groups, config.unet_res_blocks
        widths = [base * multiplier for multiplier in config.unet_multipliers]
        self.base = base
        self.embed = nn.Sequential(nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, base))
        self.conv_in = nn.Conv2d(2, base, 3, padding=1)

        skips, channels = [base], base
        self.down = nn.ModuleList()
        for stage, width in enumerate(widths):
            layers = nn.ModuleList()
            for _ in range(blocks):
                layers.append(ResidualBlock(channels, width, base, groups))
                channels = width
                skips.append(channels)
            if stage < len(widths) - 1:
                layers.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
            self.down.append(layers)

        self.middle_in = ResidualBlock(channels, channels, base, groups)
        self.middle_attention = PixelAttention(channels, groups)
        self.middle_out = ResidualBlock(channels, channels, base, groups)

        self.up = nn.ModuleList()
        for stage, width in reversed(list(enumerate(widths))):
            layers = nn.ModuleList()
            for _ in range(blocks + 1):
                layers.append(ResidualBlock(channels + skips.pop(), width, base, groups))
                channels = width
            if stage > 0:
                layers.append(nn.Conv2d(channels, channels, 3, padding=1))
            self.up.append(layers)
        self.norm_out = GroupNorm(groups, channels)
        self.conv_out = nn.Conv2d(channels, 2, 3, padding=1)

    def features(self, z_t: Tensor, t: Tensor) -> list[Tensor]:
        """Return the last block of each expanding stage, coarsest first."""
        embedding = self.embed(step_embedding(t, self.base))
        x = self.conv_in(z_t)
        skips = [x]
        for layers in self.down:
            for layer in cast(nn.ModuleList, layers):
                x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
                skips.append(x)
        x = self.middle_out(
            self.middle_attention(self.middle_in(x, embedding)), embedding
        )
        features = []
        for layers in self.up:
            for layer in cast(nn.ModuleList, layers):
                if isinstance(layer, ResidualBlock):
                    x = layer(torch.cat([x, skips.pop()], dim=1), embedding)
                    last = x
                else:
                    x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            features.append(last)
        return features

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Return the predicted noise, (B, 2, H, W), DMNet eq. (17)."""
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.features(z_t, t)[-1])))
        return out


def step_embedding(t: Tensor, dim: int) -> Tensor:
    """Return sines and cosines of t at dim / 2 frequencies, (B, dim) float32."""
    half = dim // 2
    frequencies = torch.exp(
        -math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    angles = t.float()[:, None] * frequencies[None, :]  # (B, dim/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
