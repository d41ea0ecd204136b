"""Dense links, shared by DTB and DIB.

Paper: DMNet eq. (1) and (2): every layer's output is handed on to the later ones, weighted by
alpha (DTB, initially 1/5) or beta (DIB, initially 1/3): 1 over the number of layers.
Ours: a layer's input is the previous output plus the weight times the sum of the earlier ones; the
weight is learned. The authors' test code has the mean of all outputs in place of the links, which an
ablation can choose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseBlock(nn.Module):
    """A chain of equally wide layers with weighted dense links."""

    def __init__(self, layers: list[nn.Module], linked: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.linked = linked
        if linked:
            self.link_weight = nn.Parameter(torch.tensor(1.0 / len(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output, or the mean of all without links; x and it are (B, C, H, W)."""
        if not self.linked:
            outputs = []
            for layer in self.layers:
                outputs.append(x := layer(x))
            return torch.stack(outputs).mean(dim=0)
        earlier: Tensor | None = None
        for layer in self.layers:
            linked = x if earlier is None else x + self.link_weight * earlier
            earlier = x if earlier is None else earlier + x
            x = layer(linked)
        return x
