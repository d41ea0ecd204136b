"""Dense transformer block (DTB): shallow features of one image.

Paper: DMNet eq. (1): five transformer layers, dense, all of one width.
"""

from __future__ import annotations

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.dense import DenseBlock
from dmnet_core.model.transformer import TransformerLayer


class DTB(DenseBlock):
    """(B, dim, H, W) to (B, dim, H, W); dense links weighted by alpha, initially 1 / layers."""

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__(
            [
                TransformerLayer(config.dim, config.num_heads, config.ffn_expansion)
                for _ in range(config.num_dtb_layers)
            ],
            linked="links" not in config.without,
        )
