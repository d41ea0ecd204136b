"""Transformer layer with transposed attention, the unit of DTB and of the decoder.

Paper: DMNet, section III-B: self-attention runs over the channel dimension.
Basis: Restormer (Zamir et al., CVPR 2022), multi-Dconv head transposed attention and gated
feed-forward network.

Shapes: B batch, C channels, H and W height and width; every map is (B, C, H, W) float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) with zero mean and unit variance a pixel, then scaled."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """Self-attention between channels: a (C/heads) x (C/heads) map, linear in pixels."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map, (B, C, H, W)."""
        batch, dim, height, width = x.shape
        heads = (batch, self.num_heads, dim // self.num_heads, height * width)
        query, key, value = (
            part.reshape(heads) for part in self.qkv_depthwise(self.qkv(x)).chunk(3, dim=1)
        )  # (B, heads, C/heads, H*W)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        out: Tensor = self.project((attention @ value).reshape(batch, dim, height, width))
        return out


class GatedFeedForward(nn.Module):
    """Two depthwise branches, one gating the other."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.expand = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(
            2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False
        )
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        gate, value = self.depthwise(self.expand(x)).chunk(2, dim=1)
        out: Tensor = self.project(F.gelu(gate) * value)
        return out


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with its norm and its residual."""

    def __init__(self, dim: int, num_heads: int, ffn_expansion: float) -> None:
        super().__init__()
        self.attention_norm = ChannelLayerNorm(dim)
        self.attention = TransposedAttention(dim, num_heads)
        self.feed_forward_norm = ChannelLayerNorm(dim)
        self.feed_forward = GatedFeedForward(dim, ffn_expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out
