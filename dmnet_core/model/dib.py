"""Dense invertible block (DIB): detail features without loss of information.

Paper: DMNet eq. (2): three invertible (affine coupling) layers, dense, all of one width.
Basis: RealNVP (Dinh et al., ICLR 2017), affine coupling.
Ours: an additive half-step before the affine one, so that one layer changes both halves; the
log-scale is bounded by tanh, so that the inverse stays exact in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.dense import DenseBlock


class CouplingLayer(nn.Module):
    """One invertible layer on two halves of the channels.

    With x = (x1, x2): y2 = x2 + shift(x1), y1 = x1 * exp(tanh(log_scale(y2))) + translate(y2).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.shift = _bottleneck(half)
        self.log_scale = _bottleneck(half)
        self.translate = _bottleneck(half)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, dim, H, W)."""
        x1, x2 = x.chunk(2, dim=1)
        y2 = x2 + self.shift(x1)
        y1 = x1 * torch.exp(torch.tanh(self.log_scale(y2))) + self.translate(y2)
        return torch.cat([y1, y2], dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return x for y = forward(x); (B, dim, H, W) both."""
        y1, y2 = y.chunk(2, dim=1)
        x1 = (y1 - self.translate(y2)) * torch.exp(-torch.tanh(self.log_scale(y2)))
        return torch.cat([x1, y2 - self.shift(x1)], dim=1)


class DIB(DenseBlock):
    """(B, dim, H, W) to (B, dim, H, W); dense links weighted by beta, initially 1 / layers."""

    def __init__(self, config: DMNetConfig) -> None:
        layers: list[nn.Module] = [CouplingLayer(config.dim) for _ in range(config.num_dib_layers)]
        super().__init__(layers, linked="links" not in config.without)


def _bottleneck(channels: int) -> nn.Sequential:
    hidden = 2 * channels
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1),
        nn.ReLU6(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.ReLU6(),
        nn.Conv2d(hidden, channels, 1),
    )
