"""Decoder: transformer layers and convolutions from a feature map to an image.

Paper: DMNet eq. (11), (12): one structure for both stages.
Ours: a sigmoid ends it, so that an image is in (0, 1) by construction. An anchored decoder gives
three further maps, with which `anchored` makes the image of stage II from the sources themselves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.transformer import TransformerLayer

MOST_GAIN = 1.5
"""Largest weight of a source in an anchored image."""
REACH = 7
"""Side of the square whose contrast bounds the detail of an anchored image, in pixels."""


class Decoder(nn.Module):
    """(B, dim, H / unshuffle, W / unshuffle) features to maps, (B, 1, H, W), or (B, 4, H, W) if anchored.

    The first map is the logit of an image. The others of an anchored decoder are the logits of the
    infrared's and of the visible image's weight, and the detail.
    """

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                TransformerLayer(config.dim, config.num_heads, config.ffn_expansion)
                for _ in range(config.num_decoder_layers)
            )
        )
        gathered = config.unshuffle**2
        hidden = config.dim if gathered > 1 else config.dim // 2
        self.project = nn.Sequential(
            nn.Conv2d(config.dim, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, gathered * (4 if config.anchored else 1), 3, padding=1),
        )
        self.unshuffle = config.unshuffle

    def maps(self, x: Tensor) -> Tensor:
        """Return the maps at the image's resolution."""
        return F.pixel_shuffle(self.project(self.layers(x)), self.unshuffle)

    def forward(self, x: Tensor) -> Tensor:
        """Return the image that the features alone hold, (B, 1, H, W) in (0, 1)."""
        return torch.sigmoid(self.maps(x)[:, :1])


def anchored(
    ir: Tensor, vis: Tensor, maps: Tensor, *, weights_side: int = 1, joint_contrast: bool = False
) -> Tensor:
    """Return the weighted sum of the sources and a detail within their contrast, (B, 1, H, W) in [0, 1].

    Ours: w_ir I_ir + w_vis I_vis + r tanh(d), cut to [0, 1]. The weights are in (0, MOST_GAIN), averaged
    over squares, and r is the contrast of the sources, see `contrast`. So where both are black the image
    is black, and where both are flat the detail is 0. The cut lets gradients pass.

    Args:
        ir: (B, 1, H, W) in [0, 1].
        vis: the same shape and range.
        maps: (B, 4, H, W) of an anchored `Decoder`; the first is not used.
        weights_side: side of the squares in pixels, odd; 1 averages nothing.
        joint_contrast: whether r is the geometric mean of both contrasts and not the larger one.
    """
    gains = MOST_GAIN * torch.sigmoid(maps[:, 1:3])
    gains = F.avg_pool2d(gains, weights_side, 1, weights_side // 2, count_include_pad=False)
    detail = contrast(ir, vis, joint=joint_contrast) * torch.tanh(maps[:, 3:])
    image = gains[:, :1] * ir + gains[:, 1:] * vis + detail
    cut = image.clamp(0.0, 1.0)
    return image + (cut - image).detach() if image.requires_grad else cut  # the sum is off by a rounding


def contrast(ir: Tensor, vis: Tensor, *, joint: bool) -> Tensor:
    """Return the contrast of two images around each pixel, (B, 1, H, W) in [0, 1].

    That of one image is its maximum minus its minimum in a square of REACH pixels. That of two is the
    larger of both, or, joint, their geometric mean.
    """
    both = torch.cat([ir, vis, -ir, -vis], dim=1)
    for size in ((REACH, 1), (1, REACH)):
        both = F.max_pool2d(both, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    ranges = both[:, :2] + both[:, 2:]
    return ranges.prod(dim=1, keepdim=True).sqrt() if joint else ranges.amax(dim=1, keepdim=True)
