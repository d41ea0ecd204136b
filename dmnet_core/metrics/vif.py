"""Visual information fidelity (VIF) in the pixel domain.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255]; fields (H, N, W), see windows.
Four scales share the filtered means, squares and products of the three images. Variances are
differences of means of squares and need float64; the logarithms behind them do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmnet_core.metrics.images import check_images, round_levels
from dmnet_core.metrics.windows import filter_fields, gaussian_kernel, make_level
from dmnet_core.window import Window

KERNEL_SIZES = (17, 9, 5, 3)
NOISE_VARIANCE = 2.0
TINY = 1e-10
FLAT_BELOW = 1e-10
"""Variances below this, in squared grey levels, are rounding errors of a constant patch."""


def visual_information_fidelity(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Visual information fidelity (VIF) of the fused image to both sources; higher is better.

    VIF = VIF(ir, fused) + VIF(vis, fused), each a ratio of sums over all pixels of four scales:
    sum log(1 + g^2 s_r / (s_v + 2)) / sum log(1 + s_r / 2), s_r and s_f the variances of source
    and fused under a Gaussian, g = cov / s_r (0 where negative), s_v = s_f - g cov. The Gaussians
    are 17, 9, 5 and 3 pixels wide, sigma a fifth of that; before scales 2 to 4 the image is
    filtered with that scale's Gaussian and halved. Range from 0; 2 for ir = vis = fused, more where
    fused has more contrast than the source.

    A source without variance anywhere (black, constant) has no information to lose and adds 1.
    Where a Gaussian does not fit (an image under 41 pixels), the largest odd one that fits replaces
    it, and scales at which the image is under 3 pixels are left out.

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
        No padding, as in the CDDFuse family's evaluator. PyTorch evaluators with zero padding and
        `scipy.ndimage` ones with reflection differ from the second digit on; VIFF (Han et al.,
        2013) is another metric.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("visual_information_fidelity", ir=ir, vis=vis, fused=fused)
    images = torch.cat([round_levels(image) for image in (fused, ir, vis)])[:, 0]  # (3 B, H, W)
    return vif_of(vif_statistics(images, Window.of_image(*ir.shape[2:])))


def vif_statistics(images: Tensor, window: Window, valid: Tensor | None = None) -> Tensor:
    """Return the information of the sources, and how much of it the fused image keeps.

    Args:
        images: (3 B, H, W) integer grey levels: fused, ir and vis of all images.
        window: what the arrays cover of their images.
        valid: (B, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are. Positions
            of a filter with only valid pixels under it are summed.

    Returns:
        (B, 2, 2) float64 in nats: for ir and vis, the kept and the total information.
    """
    batch = images.shape[0] // 3
    level = make_level(images, window, torch.float64, valid)
    sums = torch.zeros(batch, 2, 2, dtype=torch.float64, device=images.device)
    for scale, kernel_size in enumerate(KERNEL_SIZES):
        if scale > 0:
            size = level.fitting_kernel(kernel_size)
            level = level.decimated(gaussian_kernel(size, size / 5, level.fields))
        size = level.fitting_kernel(kernel_size)
        if size < 3:
            break
        for strip, known in level.strips(size, scale):
            sums += _information(strip.unflatten(1, (3, batch)), size, known)
    return sums


def vif_of(statistics: Tensor) -> Tensor:
    """Return VIF, (B,) float64, from the sums of `vif_statistics`."""
    kept, total = statistics.unbind(2)
    ratio = torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), 1.0)
    return ratio.sum(dim=1)


def _information(images: Tensor, size: int, valid: Tensor | None) -> Tensor:
    """Sum the kept and the total information of some rows of one scale.

    Args:
        images: (H, 3, B, W) float64; fused, ir, vis.
        size: width of the Gaussian, in pixels.
        valid: (H', B, W') float32, 1 for each position to sum and 0 elsewhere; None sums all.

    Returns:
        (B, 2, 2) float64 in nats: for ir and vis, kept and total.
    """
    height, _, batch, width = images.shape
    products = images.new_empty(height, 8, batch, width)
    products[:, :3] = images
    torch.mul(images, images, out=products[:, 3:6])
    torch.mul(images[:, 1:], images[:, :1], out=products[:, 6:8])
    kernel = gaussian_kernel(size, size / 5, images)
    means = filter_fields(products.view(height, 8 * batch, width), kernel)
    means = means.view(means.shape[0], 8, batch, means.shape[2])
    fused_mean, mean = means[:, :1], means[:, 1:3]
    variances = means[:, 3:6].addcmul_(means[:, :3], means[:, :3], value=-1)
    variances.masked_fill_(variances < FLAT_BELOW, 0.0)
    fused_var, source_var = variances[:, :1], variances[:, 1:]
    covariance = means[:, 6:8].addcmul_(mean, fused_mean, value=-1)
    gain = covariance.clamp(min=0.0).div_(source_var + TINY)
    noise = torch.addcmul(fused_var, gain, covariance, value=-1).clamp_(min=TINY)
    signal = gain.square_().mul_(source_var).div_(noise.add_(NOISE_VARIANCE))
    sums = []
    for values in (signal.float().log1p_(), (source_var / NOISE_VARIANCE).float().log1p_()):
        if valid is not None:
            values *= valid[:, None]
        sums.append(values.sum(dim=(0, 3), dtype=torch.float64))  # (2, B)
    return torch.stack(sums, dim=2).transpose(0, 1)
