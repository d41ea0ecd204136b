"""Multi-scale structural similarity: MS-SSIM (joint form, Ma) and MS-SSIM-Wang.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255]; fields (H, N, W), see windows.
Both filter with an 11 x 11 Gaussian of sigma 1.5, without padding. In an image under 11 pixels the
largest odd Gaussian that fits replaces it; a scale under 3 pixels is left out, and the
weights of the others are scaled to their sum. Their scales are the same while all sides are even,
and share the moments there. float32 is enough: 1e-3 squared grey levels beside C2 = 58.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmnet_core.metrics.images import MIDDLE, check_images, round_levels
from dmnet_core.metrics.windows import Level, filter_fields, gaussian_kernel, make_level
from dmnet_core.window import Window

KERNEL_SIZE, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
JOINT_WEIGHTS = (0.0448, 0.2856, 0.3001)
WANG_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MAX_EXPONENT = 10.0
MAX_CONSISTENCY = 0.95
"""Consistency R above which p = tan(pi R / 2) is limited: p exceeds MAX_EXPONENT there already, and the
tangent stays far from its pole."""
TINY = 2.0**-52
NOT_ZERO = 0.001
"""Grey levels added to the norm of a patch, so that a constant patch can be divided by it."""


def joint_ms_ssim(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Joint multi-scale structural similarity (MS-SSIM) to both sources; higher is better.

    In every 11 x 11 patch the two sources, each without its mean, are merged into one wanted
    patch: its norm is the larger of the two norms n, its direction that of the sum of the two
    directions weighted by (n / 11)^p, p = tan(pi R / 2) up to 10, where R is the norm of the
    sum over the sum of the norms. The score of the patch is (2 cov + C) / (var + var + C) of the
    wanted and the fused patch under the Gaussian, C = (.03 * 255)^2. A scale's score is the mean
    over its patches; MS-SSIM is the product over 3 scales of score^weight. Range up to 1; a
    negative mean counts as 0.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Ma, Zeng and Wang, IEEE Trans. Image Process. 24(11):3345-3356, 2015 (MEF-SSIM).
    Variant:
        Norms and R are of the unweighted patch, as in the authors' code; only the similarity is
        under the Gaussian. PyTorch versions made for training take the source with the larger
        variance instead of merging the two. Many tables call MS-SSIM what MS-SSIM-Wang is here.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("joint_ms_ssim", ir=ir, vis=vis, fused=fused)
    return joint_of(structure_statistics(*_stacked(ir, vis, fused), wang=False)[0])


def wang_ms_ssim(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Multi-scale structural similarity (MS-SSIM-Wang), mean over both sources; higher is better.

    Five scales: the product of the mean contrast-structure terms of scales 1 to 4 and of the mean
    SSIM of scale 5, each to its weight. Range up to 1, reached for ir = vis = fused; a negative
    mean counts as 0.

    Args:
        ir: (B, 1, H, W) grey levels in [0, 255].
        vis: the same shape.
        fused: the same shape.

    Returns:
        (B,) float64.

    Reference:
        Wang, Simoncelli and Bovik, Asilomar Conf. Signals, Systems and Computers, 2003.
    Variant:
        L = 255. Before halving, an odd side gets a zero row or column in front, as in the common
        PyTorch package; TensorFlow's repeats the last instead, which moves the third digit. Some
        evaluators add the two sources instead of averaging them.

    Raises:
        ValueError: a shape, size, dtype or grey level is not as above.
    """
    check_images("wang_ms_ssim", ir=ir, vis=vis, fused=fused)
    return wang_of(structure_statistics(*_stacked(ir, vis, fused), joint=False)[1])


def structure_statistics(
    images: Tensor, window: Window, valid: Tensor | None = None, *, joint: bool = True, wang: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the sums of the scores of MS-SSIM and of MS-SSIM-Wang at each scale.

    Args:
        images: (3 B, H, W) integer grey levels: fused, ir and vis of all images.
        window: what the arrays cover of their images.
        valid: (B, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are. Patches of
            only valid pixels are summed.
        joint: whether MS-SSIM is computed; its sums stay zero otherwise.
        wang: whether MS-SSIM-Wang is computed; its sums stay zero otherwise.

    Returns:
        Two float64 tensors: (B, 3 scales, 2), the score and the count of patches; and (B, 5 scales,
        2 sources, 3), the contrast-structure term, SSIM and the count of patches.
    """
    batch = images.shape[0] // 3
    joint_sums = images.new_zeros(batch, len(JOINT_WEIGHTS), 2, dtype=torch.float64)
    wang_sums = images.new_zeros(batch, len(WANG_WEIGHTS), 2, 3, dtype=torch.float64)
    levels = [make_level(images, window, torch.float32, valid)] * 2  # of MS-SSIM, of MS-SSIM-Wang
    for scale in range(len(WANG_WEIGHTS) if wang else len(JOINT_WEIGHTS)):
        joint_here = joint and scale < len(JOINT_WEIGHTS)
        if scale > 0:
            levels = _next_scale(levels, joint=joint_here, wang=wang)
        if levels[0] is levels[1]:
            _add(levels[0], scale, joint_sums if joint_here else None, wang_sums if wang else None)
            continue
        if joint_here:
            _add(levels[0], scale, joint_sums, None)
        if wang:
            _add(levels[1], scale, None, wang_sums)
    return joint_sums, wang_sums


def joint_of(statistics: Tensor) -> Tensor:
    """Return MS-SSIM, (B,) float64, from the sums of `structure_statistics`."""
    score, count = statistics.unbind(2)
    return _weighted_product(score, count, JOINT_WEIGHTS)


def wang_of(statistics: Tensor) -> Tensor:
    """Return MS-SSIM-Wang, (B,) float64, from the sums of `structure_statistics`."""
    contrast, similarity, count = statistics.unbind(3)  # each (B, 5, 2)
    used = count > 0
    last = used & (used.flip(1).cumsum(dim=1).flip(1) == 1)
    score = torch.where(last, similarity, contrast)
    sides = [_weighted_product(score[:, :, side], count[:, :, side], WANG_WEIGHTS) for side in (0, 1)]
    return (sides[0] + sides[1]) / 2


def _stacked(ir: Tensor, vis: Tensor, fused: Tensor) -> tuple[Tensor, Window]:
    images = torch.cat([round_levels(image) for image in (fused, ir, vis)])[:, 0]  # (3 B, H, W)
    return images, Window.of_image(*ir.shape[2:])


def _next_scale(levels: list[Level], *, joint: bool, wang: bool) -> list[Level]:
    shared = levels[0] is levels[1]
    even = not any(side.length % 2 for side in (levels[0].window.rows, levels[0].window.columns))
    of_joint, of_wang = levels
    if joint:
        of_joint = of_joint.averaged(symmetric=True)
    if shared and even and joint:
        return [of_joint, of_joint]
    if wang:
        of_wang = of_wang.averaged(symmetric=False)
    return [of_joint, of_wang]


def _add(level: Level, scale: int, joint: Tensor | None, wang: Tensor | None) -> None:
    """Add the scores of one scale to the sums."""
    size = level.fitting_kernel(KERNEL_SIZE)
    if size < 3:
        return
    gaussian = gaussian_kernel(size, SIGMA, level.fields)
    box = torch.full_like(gaussian, 1.0 / size)
    for strip, valid in level.strips(size, scale):
        images = strip.unflatten(1, (3, -1))  # (H, 3, B, W)
        products = images.new_empty(images.shape[0], 9, *images.shape[2:])
        # in this order, so that MS-SSIM-Wang does without the last and the box without the first:
        # fused fused, ir fused, vis fused, fused, ir, vis, ir ir, vis vis, ir vis
        torch.mul(images, images[:, :1], out=products[:, :3])
        products[:, 3:6] = images
        torch.mul(images[:, 1:], images[:, 1:], out=products[:, 6:8])
        torch.mul(images[:, 1], images[:, 2], out=products[:, 8])
        under = _filtered(products if joint is not None else products[:, :8], gaussian)
        # the variance of fused and its covariances with ir and vis; the variances of ir and vis
        with_fused = under[:, :3].addcmul_(under[:, 3:4], under[:, 3:6], value=-1)
        own = under[:, 6:8].addcmul_(under[:, 4:6], under[:, 4:6], value=-1).clamp_(min=0.0)
        fused_var = with_fused[:, :1].clamp_(min=0.0)
        if valid is None:
            count = own.new_full((1,), own.shape[0] * own.shape[3], dtype=torch.float64)
        else:
            count = valid.sum(dim=(0, 2), dtype=torch.float64)  # (B,)
        if joint is not None:
            between = under[:, 8].addcmul_(under[:, 4], under[:, 5], value=-1)
            plain = _filtered(products[:, 4:], box)
            score = _joint_score(plain, own, between, with_fused[:, 1:], fused_var[:, 0], size)
            if valid is not None:
                score *= valid
            joint[:, scale, 0] += score.sum(dim=(0, 2), dtype=torch.float64)
            joint[:, scale, 1] += count
        if wang is not None:
            contrast = with_fused[:, 1:].mul_(2.0).add_(C2).div_(own.add_(fused_var).add_(C2))
            means = under[:, 3:6].add_(MIDDLE)
            mean, source = means[:, :1], means[:, 1:]
            similarity = (source * mean).mul_(2.0).add_(C1)
            similarity.div_(source.square().addcmul_(mean, mean).add_(C1)).mul_(contrast)
            for column, values in enumerate((contrast, similarity)):
                if valid is not None:
                    values *= valid[:, None]
                wang[:, scale, :, column] += values.sum(dim=(0, 3), dtype=torch.float64).T
            wang[:, scale, :, 2] += count[:, None]


def _filtered(products: Tensor, kernel: Tensor) -> Tensor:
    """Filter (H, N, B, W) maps; returns (H', N, B, W')."""
    height, num_maps, batch, width = products.shape
    out = filter_fields(products.reshape(height, num_maps * batch, width), kernel)
    return out.view(out.shape[0], num_maps, batch, out.shape[2])


def _joint_score(
    plain: Tensor, own: Tensor, between: Tensor, with_fused: Tensor, fused_var: Tensor, size: int
) -> Tensor:
    """Return the score of each patch, (H', B, W').

    Args:
        plain: (H', 5, B, W') unweighted means of ir, vis, ir^2, vis^2 and ir vis.
        own: (H', 2, B, W') variances of the sources under the Gaussian.
        between: (H', B, W') covariance of the sources with each other.
        with_fused: (H', 2, B, W') covariances of the sources with the fused image.
        fused_var: (H', B, W') variance of the fused image.
        size: side of a patch, in pixels.
    """
    plain_var = (plain[:, 2:4] - plain[:, :2].square()).clamp_(min=0.0)
    plain_between = plain[:, 4] - plain[:, 0] * plain[:, 1]
    deviation = plain_var.sqrt()  # (H', 2, B, W')
    norm = deviation * size + NOT_ZERO
    summed = plain_var.sum(dim=1).add_(plain_between, alpha=2.0).clamp_(min=0.0).sqrt_()
    consistency = summed.add_(TINY).div_(deviation.sum(dim=1).add_(TINY)).clamp_(max=MAX_CONSISTENCY)
    exponent = consistency.mul_(math.pi / 2).tan_().clamp_(max=MAX_EXPONENT)[:, None]
    weight = (norm / size).pow_(exponent).add_(TINY)
    weight.div_(weight.sum(dim=1, keepdim=True)).div_(norm)
    squares, product = weight.square(), weight[:, 0] * weight[:, 1] * 2.0

    length = (squares * plain_var).sum(dim=1).addcmul_(product, plain_between)
    length.clamp_(min=0.0).sqrt_().mul_(size)
    flat = length == 0
    scale = torch.where(flat, 1.0, norm.amax(dim=1) / torch.where(flat, 1.0, length))
    wanted_var = (squares * own).sum(dim=1).addcmul_(product, between).clamp_(min=0.0)
    wanted_var.mul_(scale.square())
    wanted_cov = (weight * with_fused).sum(dim=1).mul_(scale)
    return wanted_cov.mul_(2.0).add_(C2).div_(wanted_var.add_(fused_var).add_(C2))


def _weighted_product(score: Tensor, count: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return the product of mean^weight over the scales, 0 where none has a patch.

    Args:
        score: (B, scales) sums.
        count: (B, scales) number of patches; a scale without any is left out.
        weights: one for each scale.
    """
    used = count > 0
    mean = (score / count.clamp(min=1.0)).clamp(min=0.0)
    share = torch.where(used, score.new_tensor(weights), 0.0)
    share = share / share.sum(dim=1, keepdim=True)
    product = torch.where(used, mean**share, 1.0).prod(dim=1)
    return torch.where(used.any(dim=1), product, 0.0)
