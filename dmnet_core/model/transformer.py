"""Transformer layer with transposed attention, the unit of DTB and of the decoder.

Paper: DMNet, section III-B: self-attention runs over the channel dimension.
Basis: Restormer (Zamir et al., CVPR 2022), multi-Dconv head transposed attention and gated
feed-forward network.

Shapes: B batch, C channels, H and W height and width; every map is (B, C, H, W) float.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.statistics import image_wide


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
        """Return the attended map, (B, C, H, W).

        The Gram matrix of queries and keys together holds their norms and their cosines; the attention
        map and the last projection are multiplied into one C x C matrix. So the pixels are read twice
        and never copied. All in float32: sums over an image overflow half precision.
        """
        dim, channels = x.shape[1], x.shape[1] // self.num_heads
        query_key, value = self.qkv_depthwise(self.qkv(x)).split((2 * dim, dim), dim=1)
        with torch.autocast(x.device.type, enabled=False):
            scene = image_wide(self)
            if scene is None:
                products = cast(Any, _Products).apply(_pixels(query_key).float())  # (B, 2 C, 2 C)
            else:
                products = scene.products(query_key)  # (1, 2 C, 2 C)
            norms = products.diagonal(dim1=1, dim2=2).clamp(min=1e-24).sqrt()  # (B, 2 C)
            cosines = (products / (norms[:, :, None] * norms[:, None, :]))[:, :dim, dim:]
            heads = cosines.unflatten(1, (-1, channels)).unflatten(3, (-1, channels))
            within = heads.diagonal(dim1=1, dim2=3)  # (B, C/heads, C/heads, heads)
            attention = (within.permute(0, 3, 1, 2) * self.temperature).softmax(dim=-1)
            weights = self.project.weight[:, :, 0, 0].unflatten(1, (-1, channels)).transpose(0, 1)
            mixed = (weights @ attention).transpose(1, 2).flatten(2)  # (B, C, C)
        attended = _pixels(value) @ mixed.to(value.dtype).transpose(1, 2)  # (B, H*W, C)
        out: Tensor = attended.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return out


class _Products(torch.autograd.Function):
    """x^T x of (B, N, C), whose gradient keeps x's memory layout; autograd's is transposed and copied."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.transpose(1, 2) @ x

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        out: Tensor = x @ (slope + slope.transpose(1, 2))
        return out


def _pixels(x: Tensor) -> Tensor:
    """Return (B, C, H, W) as (B, H*W, C), no copy where it lies channels last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


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
        # Each branch by itself: views of a joint map are strided, and GELU on those is ten times slower.
        gate, value = (
            F.conv2d(F.conv2d(x, expand), depthwise, padding=1, groups=len(depthwise))
            for expand, depthwise in zip(
                self.expand.weight.chunk(2), self.depthwise.weight.chunk(2), strict=True
            )
        )  # (B, hidden, H, W)
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
