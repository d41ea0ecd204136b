"""Visual information fidelity (VIF) in the pixel domain.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255]; fields (H, N, W), see windows.
Four scales share the filtered means, squares and products of the three images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.images import centred, check_images
from dmnet_core.metrics.windows import filter_fields, fitting_window, gaussian_kernel

WINDOWS = (17, 9, 5, 3)
NOISE_VARIANCE = 2.0
TINY = 1e-10


def visual_information_fidelity(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Visual information fidelity (VIF) of the fused image to both sources; higher is better.

    VIF = VIF(ir, fused) + VIF(vis, fused), each a ratio of sums over all windows of four scales:
    sum log(1 + g^2 s_r / (s_v + 2)) / sum log(1 + s_r / 2), s_r and s_f the variances of source
    and fused under a Gaussian window, g = cov / s_r (0 where negative), s_v = s_f - g cov.
    Windows are 17, 9, 5 and 3 wide with sigma a fifth of it; before scales 2 to 4 the image is
    filtered with that scale's window and halved. Range from 0; 2 for ir = vis = fused, more where
    fused has more contrast than the source.

    A source with no variance in any window (black, constant) has no information to lose and adds
    1. Where a window does not fit (an image under 41 pixels), the largest odd window that fits
    takes its place, and scales after the image is under 3 pixels are left out.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Sheikh and Bovik, IEEE Trans. Image Process. 15(2):430-444, 2006, in the pixel-domain form
        of the authors' `vifp_mscale`.
    Variant:
        Valid windows, as the CDDFuse family's evaluator. PyTorch evaluators with zero padding and
        `scipy.ndimage` ones with reflection differ from the second digit on; VIFF (Han et al.,
        2013) is another metric.

    Raises:
        ValueError: an image is not as said.
    """
    check_images("visual_information_fidelity", ir=ir, vis=vis, fused=fused)
    return vif_of_fields(torch.cat([centred(ir), centred(vis), centred(fused)], dim=1))


def vif_of_fields(images: Tensor) -> Tensor:
    """Return VIF (B,) from (B, 3, H, W) float64: ir, vis, fused, each moved near zero."""
    batch, _, height, width = images.shape
    fields = images.permute(2, 1, 0, 3).reshape(height, 3 * batch, width).contiguous()
    kept = images.new_zeros(2, batch)
    total = images.new_zeros(2, batch)
    for scale, window in enumerate(WINDOWS):
        if scale > 0:
            size = fitting_window(window, fields.shape[0], fields.shape[2])
            fields = filter_fields(fields, gaussian_kernel(size, size / 5, fields), step=2)
        size = fitting_window(window, fields.shape[0], fields.shape[2])
        if size < 3:
            break
        kept_here, total_here = _information(fields.view(-1, 3, batch, fields.shape[2]), size)
        kept += kept_here
        total += total_here
    ratio = torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), 1.0)
    return ratio.sum(dim=0)


def _information(images: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sum the kept and the source information of one scale.

    Args:
        images: (H, 3, B, W) float64; ir, vis, fused.
        size: window side.

    Returns:
        Two (2, B) float64 in nats: for ir and for vis.
    """
    height, _, batch, width = images.shape
    products = torch.empty(height, 8, batch, width, dtype=images.dtype, device=images.device)
    products[:, :3] = images
    torch.mul(images, images, out=products[:, 3:6])
    torch.mul(images[:, :2], images[:, 2:], out=products[:, 6:8])
    kernel = gaussian_kernel(size, size / 5, images)
    means = filter_fields(products.view(height, 8 * batch, width), kernel)
    means = means.view(means.shape[0], 8, batch, means.shape[2])
    mean, fused_mean = means[:, :2], means[:, 2:3]
    # a variance is never negative; a difference of means can be, by rounding
    source_var = means[:, 3:5].addcmul(mean, mean, value=-1).clamp_(min=0.0)
    fused_var = means[:, 5:6].addcmul(fused_mean, fused_mean, value=-1).clamp_(min=0.0)
    covariance = means[:, 6:8].addcmul(mean, fused_mean, value=-1)
    gain = covariance.clamp(min=0.0).div_(source_var + TINY)
    noise = torch.addcmul(fused_var, gain, covariance, value=-1).clamp_(min=TINY)
    signal = gain.square_().mul_(source_var).div_(noise.add_(NOISE_VARIANCE))
    return signal.log1p_().sum(dim=(0, 3)), source_var.div_(NOISE_VARIANCE).log1p_().sum(dim=(0, 3))
