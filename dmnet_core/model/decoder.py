"""Decoder: transformer layers and convolutions from a feature map to an image.

Paper: DMNet eq. (11), (12): one structure for both stages.
Ours: a sigmoid ends it, so that an image is in (0, 1) by construction. An anchored decoder gives
four further maps, with which `anchored` makes the image of stage II from the sources themselves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.transformer import TransformerLayer
from dmnet_core.operators import sobel_magnitude

MOST_GAIN = 1.5
"""Largest weight of a source's level or gradient in an anchored image."""
MOST_OVER = 2.0
"""Largest ratio of an anchored image to the larger source: what is bright does not glow into black."""
SMOOTHING = (1, 2, 1)
"""Distances of the pixels that are summed along each axis, one after the other: together the kernel
(1, 2, 2, 2, 1). It averages the sources' weights and the strengths of their gradients, since weights that
differ between neighbours would show the brighter source's level as texture. Patterns of periods 2 and 4,
which the maps may have by a pixel's place in its square of features, vanish in it."""
QUIET = 1e-3
"""Gradients much weaker than this share alike, whatever their ratio: one grey level has 0.016."""
SHARPNESS = 8
"""Power of the gradients' strengths in their shares of the image's gradient. That is nearly a choice of
the stronger one, and yet no rounding, nor the sampled statistics of a scene, turns one into the other."""
PULL = 0.1
"""Weight of the level against the gradients in `integrate`: beyond some PULL ** -0.5 pixels, which are 3,
the image follows the level."""
STEPS = 16
"""Steps of Chebyshev's iteration in `integrate`; less than a tenth of the first error is then left."""


class Decoder(nn.Module):
    """(B, dim, H / unshuffle, W / unshuffle) features to maps, (B, 1, H, W), or (B, 5, H, W) if anchored.

    The first map is the logit of an image. The others of an anchored decoder are the logits of the
    weights of the infrared's level, the visible image's level, and the gradients of both.
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
            nn.Conv2d(hidden, gathered * (5 if config.anchored else 1), 3, padding=1),
        )
        self.unshuffle = config.unshuffle

    def maps(self, x: Tensor) -> Tensor:
        """Return the maps at the image's resolution."""
        return F.pixel_shuffle(self.project(self.layers(x)), self.unshuffle)

    def forward(self, x: Tensor) -> Tensor:
        """Return the image that the features alone hold, (B, 1, H, W) in (0, 1)."""
        return torch.sigmoid(self.maps(x)[:, :1])


def anchored(ir: Tensor, vis: Tensor, maps: Tensor) -> Tensor:
    """Return the image with weighted levels and the stronger weighted gradient, (B, 1, H, W) in [0, 1].

    Ours: eq. (19) asks for the larger gradient of the two sources; here the network weighs both, and the
    image is integrated from a mean of them and from the level w_ir I_ir + w_vis I_vis, see `integrate`.
    The mean is nearly the stronger gradient: each counts by the power SHARPNESS of its weighted strength
    around the pixel. The weights are in (0, MOST_GAIN); they and the strengths are averaged by SMOOTHING,
    since shares that change from pixel to pixel would mix both sources' textures. The image is cut to
    [0, 1] and to MOST_OVER times the larger source, so that it is black where both sources are; the cut
    lets gradients of the loss pass.

    Args:
        ir: (B, 1, H, W) float32 in [0, 1].
        vis: the same shape and range.
        maps: (B, 5, H, W) float32 of an anchored `Decoder`; the first is not used.
    """
    gains = MOST_GAIN * torch.sigmoid(maps[:, 1:])
    strengths = torch.cat([sobel_magnitude(ir), sobel_magnitude(vis)], dim=1)
    smooth = _averaged(torch.cat([gains, strengths], dim=1)).split(1, dim=1)
    level_ir, level_vis, edge_ir, edge_vis, strength_ir, strength_vis = smooth
    odds = (edge_ir * strength_ir + QUIET) / (edge_vis * strength_vis + QUIET)
    share_ir = torch.sigmoid(SHARPNESS * odds.log())
    edge_ir, edge_vis = edge_ir * share_ir, edge_vis * (1.0 - share_ir)
    dx = edge_ir[..., :-1] * _across(ir) + edge_vis[..., :-1] * _across(vis)
    dy = edge_ir[..., :-1, :] * _down(ir) + edge_vis[..., :-1, :] * _down(vis)
    image = integrate(level_ir * ir + level_vis * vis, dx, dy)
    cut = torch.minimum(image, MOST_OVER * torch.maximum(ir, vis)).clamp(0.0, 1.0)
    return image + (cut - image).detach() if image.requires_grad else cut


def integrate(level: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Return the image x with the least |grad x - (dx, dy)|^2 + PULL |x - level|^2, (B, 1, H, W).

    That is the screened Poisson equation (PULL - L) x = PULL level - div(dx, dy) with the Laplacian L of
    four neighbours, and no flow through the border. Its operator's eigenvalues are between PULL and
    PULL + 8; Chebyshev's iteration over this range begins with the level.

    Args:
        level: (B, 1, H, W).
        dx: (B, 1, H, W - 1), wanted difference of a pixel's right neighbour to it.
        dy: (B, 1, H - 1, W), wanted difference of the neighbour below to it.

    Reference:
        Bhat, Zitnick, Cohen and Curless, ACM Trans. Graph. 29(2), 2010; Saad, Iterative Methods for
        Sparse Linear Systems, 2003, algorithm 12.1.
    """
    wanted = PULL * level - _across(F.pad(dx, (1, 1))) - _down(F.pad(dy, (0, 0, 1, 1)))
    middle, half = PULL + 4.0, 4.0
    ratio = half / middle
    step = _residual(wanted, level) / middle
    image = level + step
    for _ in range(STEPS - 1):
        following = 1.0 / (2.0 * middle / half - ratio)
        residual = _residual(wanted, image)
        step = torch.add(following * ratio * step, residual, alpha=2.0 * following / half)
        image, ratio = image + step, following
    return image


def _residual(wanted: Tensor, image: Tensor) -> Tensor:
    """Return wanted - (PULL - L) image, with the Laplacian L of four neighbours."""
    around = F.pad(image, (1, 1, 1, 1), mode="replicate")
    residual = torch.sub(wanted, image, alpha=PULL + 4.0)
    residual += around[..., 1:-1, :-2]
    residual += around[..., 1:-1, 2:]
    residual += around[..., :-2, 1:-1]
    residual += around[..., 2:, 1:-1]
    return residual


def _averaged(maps: Tensor) -> Tensor:
    """Return maps smoothed by SMOOTHING along both axes, with replicated borders.

    Sums of shifted maps are faster than PyTorch's pooling and convolutions of few channels on a CPU.
    """
    total = F.pad(maps, (sum(SMOOTHING) // 2,) * 4, mode="replicate")
    for axis in (2, 3):
        for distance in SMOOTHING:
            length = total.shape[axis] - distance
            total = total.narrow(axis, 0, length) + total.narrow(axis, distance, length)
    mean: Tensor = total / 4 ** len(SMOOTHING)
    return mean


def _across(image: Tensor) -> Tensor:
    """Return the difference of each pixel's right neighbour to it, (B, 1, H, W - 1)."""
    return image[..., 1:] - image[..., :-1]  # ONNX has no operator for Tensor.diff


def _down(image: Tensor) -> Tensor:
    """Return the difference of the neighbour below to each pixel, (B, 1, H - 1, W)."""
    return image[..., 1:, :] - image[..., :-1, :]
