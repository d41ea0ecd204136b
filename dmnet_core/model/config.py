"""Widths and depths of a DMNet: everything that is needed to build the network for given weights.

The config is stored in the checkpoint; inference takes it from there and from nowhere else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

PARTS = ("dtb", "dib", "dm", "csab", "links")
"""Parts of the network that an ablation may leave out; links are the dense links of DTB and DIB."""


@dataclass(frozen=True, kw_only=True)
class DMNetConfig:
    """Widths and depths of the network."""

    dim: int
    """Channels of every feature map of the autoencoder; even."""
    num_heads: int
    """Heads of the transposed attention; divides dim."""
    unshuffle: int = 1
    """Pixels along each axis that the embedding gathers into channels: the feature maps have the image's
    resolution over it; 1 is the paper's."""
    anchored: bool = False
    """Whether the decoder weighs the sources' levels and gradients, from which the image is integrated,
    in place of making the image's values from features alone, as the paper does."""
    num_dtb_layers: int = 5
    """Transformer layers of the dense transformer block (DTB)."""
    num_dib_layers: int = 3
    """Coupling layers of the dense invertible block (DIB)."""
    num_decoder_layers: int = 4
    """Transformer layers of the decoder."""
    ffn_expansion: float = 2.0
    """Hidden width of a feed-forward network over dim."""
    unet_base: int = 128
    """Channels of the U-Net's first stage."""
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    """Channels of each stage over unet_base."""
    unet_res_blocks: int = 2
    """Residual blocks a contracting stage; an expanding stage has one more."""
    unet_groups: int = 32
    """Groups of the U-Net's group normalisation."""
    dm_stride: int = 1
    """Pixels of the image that DM averages along each axis before its U-Net, a multiple of unshuffle.
    The paper has 1."""
    num_noise_steps: int = 1000
    """T, the length of the noise schedule."""
    feature_steps: tuple[int, ...] = (5, 50, 100)
    """Noise steps t whose U-Net features make the latent map."""
    without: tuple[str, ...] = ()
    """Parts left out for an ablation (DMNet, Table V), of PARTS: two convolutions replace dtb, dib and
    dm, the mean of all layers' outputs replaces the links, nothing replaces csab."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "unet_multipliers", tuple(self.unet_multipliers))
        object.__setattr__(self, "feature_steps", tuple(self.feature_steps))
        object.__setattr__(self, "without", tuple(sorted(self.without)))
        if not set(self.without) <= set(PARTS):
            raise ValueError(
                f"DMNetConfig: without is {', '.join(self.without)}, expected parts of "
                f"{', '.join(PARTS)}"
            )
        if self.dim % 2 or self.dim % self.num_heads:
            raise ValueError(
                f"DMNetConfig: dim is {self.dim} with {self.num_heads} heads, expected an even "
                "number that the heads divide"
            )
        if self.unet_base % 2 or self.unet_base % self.unet_groups:
            raise ValueError(
                f"DMNetConfig: unet_base is {self.unet_base}, expected an even multiple of unet_groups "
                f"({self.unet_groups})"
            )
        if self.dm_stride % self.unshuffle:
            raise ValueError(
                f"DMNetConfig: dm_stride is {self.dm_stride}, expected a multiple of unshuffle "
                f"({self.unshuffle})"
            )
        if not self.feature_steps or not all(0 < t < self.num_noise_steps for t in self.feature_steps):
            raise ValueError(
                f"DMNetConfig: feature_steps are {self.feature_steps}, expected one or more between 1 "
                f"and {self.num_noise_steps - 1}"
            )

    @classmethod
    def paper(cls) -> DMNetConfig:
        """Return the paper's size: 386 M parameters (DMNet, Table VIII)."""
        return cls(dim=64, num_heads=8)

    @classmethod
    def compact(cls) -> DMNetConfig:
        """Return the size that comes with the package: the same parts, narrow, on quarter-sized maps.

        Ours: the feature maps hold squares of 2 x 2 pixels, and DM sees 4 x 4 averages in four stages.
        The fine texture reaches the image through the sources, which an anchored decoder weighs.
        """
        return cls(
            dim=16,
            num_heads=4,
            unshuffle=2,
            anchored=True,
            num_decoder_layers=2,
            ffn_expansion=1.5,
            unet_base=16,
            unet_multipliers=(1, 2, 4, 8),
            unet_res_blocks=1,
            unet_groups=8,
            dm_stride=4,
        )

    @classmethod
    def fast(cls) -> DMNetConfig:
        """Return a smaller size for CPUs and edge devices: squares of 4 x 4 pixels, and fewer layers."""
        return cls(
            dim=16,
            num_heads=4,
            unshuffle=4,
            anchored=True,
            num_dtb_layers=3,
            num_decoder_layers=1,
            ffn_expansion=1.5,
            unet_base=16,
            unet_multipliers=(1, 2, 4),
            unet_res_blocks=1,
            unet_groups=8,
            dm_stride=8,
        )

    @classmethod
    def of_preset(cls, preset: str) -> DMNetConfig:
        """Return the size of a preset by its name: paper, compact or fast."""
        return {"paper": cls.paper, "compact": cls.compact, "fast": cls.fast}[preset]()

    @property
    def size_multiple(self) -> int:
        """Height and width that the network takes are multiples of this, in pixels."""
        return int(self.dm_stride * 2 ** (len(self.unet_multipliers) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DMNetConfig:
        """Build a config from `to_dict`'s values.

        Raises:
            ValueError: a field is unknown or missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or not {"dim", "num_heads"} <= set(values):
            raise ValueError(
                f"DMNetConfig: unknown fields {unknown} or no dim and num_heads, expected the "
                "fields of DMNetConfig: was the checkpoint written by another version?"
            )
        return cls(**values)
