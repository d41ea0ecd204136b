"""Decoder: transformer layers and convolutions from a feature map to an image.

Paper: DMNet eq. (11), (12): one structure for both stages.
Ours: a sigmoid ends it, so that an image is in (0, 1) by construction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.transformer import TransformerLayer


class Decoder(nn.Module):
    """(B, dim, H, W) features to a (B, 1, H, W) image in (0, 1)."""

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                TransformerLayer(config.dim, config.num_heads, config.ffn_expansion)
                for _ in range(config.num_decoder_layers)
            )
        )
        self.project = nn.Sequential(
            nn.Conv2d(config.dim, config.dim // 2, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(config.dim // 2, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the image."""
        return torch.sigmoid(self.project(self.layers(x)))
