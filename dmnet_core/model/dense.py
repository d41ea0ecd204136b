"""Dense links, shared by DTB and DIB.

Paper: DMNet eq. (1) and (2): every layer's output is handed on to the later ones, weighted by
alpha (DTB, initially 1/5) or beta (DIB, initially 1/3).
Ours: a layer's input is the previous output plus the weight times the sum of the earlier ones; the
weight is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseBlock(nn.Module):
    """A chain of equally wide layers with weighted dense links."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.link_weight = nn.Parameter(torch.tensor(1.0 / len(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output; x and it are (B, C, H, W)."""
        earlier: Tensor | None = None
        for layer in self.layers:
            linked = x if earlier is None else x + self.link_weight * earlier
            earlier = x if earlier is None else earlier + x
            x = layer(linked)
        return x
