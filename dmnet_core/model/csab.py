"""Channel and spatial attention block (CSAB).

Paper: DMNet eq. (10): channel attention, then spatial attention. Each looks through a mixed pooling
(w * average + (1 - w) * maximum, w learned) and a maximum pooling.
Basis: CBAM (Woo et al., ECCV 2018).
Ours: w is the sigmoid of a learned number, starting at 1/2; one w for the channel attention and one
for the spatial.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmnet_core.statistics import image_wide


class ChannelAttention(nn.Module):
    """Scale each channel by a weight in (0, 1) seen from the whole image."""

    def __init__(self, dim: int, reduction: int = 4) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim // reduction), nn.ReLU(), nn.Linear(dim // reduction, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights, (B, dim, 1, 1), or (1, dim, 1, 1) where they are a scene's."""
        scene = image_wide(self)
        maximum = x.amax(dim=(2, 3)) if scene is None else scene.maximum(x)  # (B, dim), or (1, dim)
        average = x.mean(dim=(2, 3)) if scene is None else scene.mean(x)
        mixed = mixed_pool(average, maximum, self.mix)
        return torch.sigmoid(self.mlp(mixed) + self.mlp(maximum))[:, :, None, None]


class SpatialAttention(nn.Module):
    """Scale each pixel by a weight in (0, 1) seen from a 7 x 7 neighbourhood."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(()))
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights, (B, 1, H, W)."""
        maximum = x.amax(dim=1, keepdim=True)  # (B, 1, H, W)
        mixed = mixed_pool(x.mean(dim=1, keepdim=True), maximum, self.mix)
        return torch.sigmoid(self.conv(torch.cat([mixed, maximum], dim=1)))


class CSAB(nn.Module):
    """Channel attention, then spatial attention, on a (B, dim, H, W) map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(dim)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted map, (B, dim, H, W)."""
        x = x * self.channel(x)
        out: Tensor = x * self.spatial(x)
        return out


def mixed_pool(average: Tensor, maximum: Tensor, mix: Tensor) -> Tensor:
    """Return w * average + (1 - w) * maximum with w = sigmoid(mix)."""
    weight = torch.sigmoid(mix)
    return weight * average + (1.0 - weight) * maximum
