"""Reference methods: simple fusion rules that any fusion network must be compared with.

They need no training and take a second for a thousand frames, and the pixelwise maximum beats published
networks in MI, VIF and Qabf: a table without them says little.

Shapes: ir, vis and the fused image are (B, 1, H, W) float32 grey levels in [0, 255].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_LEVELS = 4
BURT_KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def fuse_average(ir: Tensor, vis: Tensor) -> Tensor:
    """Return the mean of both sources."""
    return (ir + vis) / 2


def fuse_maximum(ir: Tensor, vis: Tensor) -> Tensor:
    """Return the brighter source, pixel by pixel."""
    return torch.maximum(ir, vis)


def fuse_laplacian(ir: Tensor, vis: Tensor) -> Tensor:
    """Fuse by Laplacian pyramids: the stronger detail at each scale, the mean of the coarsest images.

    There are four scales of detail, fewer where a side would be under 2 pixels. The result is clamped to
    [0, 255], which the sum of the details of both sources can exceed.

    Reference:
        Burt and Adelson, IEEE Trans. Commun. 31(4):532-540, 1983; Toet, Pattern Recognition
        Letters 9(4):245-253, 1989.
    """
    details = []
    for _ in range(NUM_LEVELS):
        if min(ir.shape[2:]) < 4:
            break
        smaller_ir, smaller_vis = _reduced(ir), _reduced(vis)
        detail_ir = ir - _expanded(smaller_ir, ir)
        detail_vis = vis - _expanded(smaller_vis, vis)
        details.append(torch.where(detail_ir.abs() >= detail_vis.abs(), detail_ir, detail_vis))
        ir, vis = smaller_ir, smaller_vis
    fused = (ir + vis) / 2
    for detail in reversed(details):
        fused = detail + _expanded(fused, detail)
    return fused.clamp(0, 255)


METHODS = {"average": fuse_average, "max": fuse_maximum, "laplacian": fuse_laplacian}
"""Reference methods by the name that they have in tables."""


def _smooth(image: Tensor) -> Tensor:
    kernel = image.new_tensor(BURT_KERNEL)
    rows = F.conv2d(F.pad(image, (0, 0, 2, 2), mode="reflect"), kernel.view(1, 1, 5, 1))
    return F.conv2d(F.pad(rows, (2, 2, 0, 0), mode="reflect"), kernel.view(1, 1, 1, 5))


def _reduced(image: Tensor) -> Tensor:
    return _smooth(image)[..., ::2, ::2]


def _expanded(image: Tensor, like: Tensor) -> Tensor:
    """Return an image of twice the size, zeros between its pixels smoothed away."""
    wide = torch.zeros_like(like)
    wide[..., ::2, ::2] = 4 * image
    return _smooth(wide)
