"""Multi-scale structural similarity: MS-SSIM (joint form, Ma) and MS-SSIM-Wang.

Shapes: ir, vis, fused (B, 1, H, W) grey levels in [0, 255]; fields (H, N, W), see windows.
Both filter with an 11 x 11 Gaussian of sigma 1.5, valid windows only. In an image under 11 pixels
the largest odd window that fits takes its place; a scale under 3 pixels is left out, and the
weights of the others are scaled to their sum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmnet_core.metrics.images import check_images
from dmnet_core.metrics.windows import filter_fields, fitting_window, gaussian_kernel

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
JOINT_WEIGHTS = (0.0448, 0.2856, 0.3001)
WANG_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MAX_EXPONENT = 10.0
NOT_ZERO = 0.001
"""Grey levels added to the norm of a window, so that a flat one can be divided by it."""


def joint_ms_ssim(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    """Joint multi-scale structural similarity (MS-SSIM) to both sources; higher is better.

    In every 11 x 11 window the two sources, each without its mean, are merged into one wanted
    patch: its norm is the larger of the two norms n, its direction that of the sum of the two
    directions weighted by (n / 11)^p, p = tan(pi R / 2) up to 10, where R is the norm of the
    sum over the sum of the norms. The score of the window is (2 cov + C) / (var + var + C) of the
    wanted and the fused patch under the Gaussian, C = (.03 * 255)^2. A scale's score is the mean
    over its windows; MS-SSIM is the product over 3 scales of score^weight. Range up to 1; a
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
        Norms and R are of the unweighted window, as in the authors' code; only the similarity is
        under the Gaussian. PyTorch versions made for training take the source with the larger
        variance instead of merging the two. Many tables call MS-SSIM what MS-SSIM-Wang is here.

    Raises:
        ValueError: an image is not as said.
    """
    check_images("joint_ms_ssim", ir=ir, vis=vis, fused=fused)
    return joint_ms_ssim_of(_fields(ir, vis, fused), ir.shape[0])


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
        ValueError: an image is not as said.
    """
    check_images("wang_ms_ssim", ir=ir, vis=vis, fused=fused)
    return wang_ms_ssim_of(_fields(ir, vis, fused), ir.shape[0])


def joint_ms_ssim_of(fields: Tensor, batch: int) -> Tensor:
    """Return MS-SSIM (B,) from (H, 3 B, W) float64 fields: ir, vis, fused of all images."""
    scores: list[Tensor] = []
    for scale in range(len(JOINT_WEIGHTS)):
        if scale > 0:
            fields = _halved(fields, symmetric=True)
        size = fitting_window(WINDOW, fields.shape[0], fields.shape[2])
        if size < 3:
            break
        scores.append(_joint_score(fields, batch, size))
    return _weighted_product(scores, JOINT_WEIGHTS)


def wang_ms_ssim_of(fields: Tensor, batch: int) -> Tensor:
    """Return MS-SSIM-Wang (B,) from (H, 3 B, W) float64 fields: ir, vis, fused of all images."""
    scores: list[Tensor] = []
    similarity = fields.new_zeros(2, batch)
    for scale in range(len(WANG_WEIGHTS)):
        if scale > 0:
            fields = _halved(fields, symmetric=False)
        size = fitting_window(WINDOW, fields.shape[0], fields.shape[2])
        if size < 3:
            break
        contrast, similarity = _wang_scores(fields, batch, size)
        scores.append(contrast)
    scores[-1] = similarity
    return _weighted_product(scores, WANG_WEIGHTS).mean(dim=0)


def _fields(ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
    batch, _, height, width = ir.shape
    images = torch.stack([ir, vis, fused]).double()  # (3, B, 1, H, W)
    return images.view(3 * batch, height, width).transpose(0, 1).contiguous()


def _moments(fields: Tensor, batch: int, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means (H', 3, B, W'), variances (same) and covariances (ir vis, ir fused, vis fused)."""
    height, _, width = fields.shape
    images = fields.view(height, 3, batch, width)
    ir, vis, fused = images.unbind(1)
    products = torch.stack([*images.unbind(1), ir * ir, vis * vis, fused * fused,
                            ir * vis, ir * fused, vis * fused], dim=1)  # fmt: skip
    means = filter_fields(products.view(height, 9 * batch, width), kernel)
    means = means.view(means.shape[0], 9, batch, means.shape[2])
    mean = means[:, :3]
    # a variance is never negative; a difference of means can be, by rounding
    variance = (means[:, 3:6] - mean * mean).clamp_(min=0.0)
    covariance = means[:, 6:9] - mean[:, (0, 0, 1)] * mean[:, (1, 2, 2)]
    return mean, variance, covariance


def _joint_score(fields: Tensor, batch: int, size: int) -> Tensor:
    """Return the mean score (B,) of one scale."""
    box = fields.new_full((size,), 1.0 / size)
    _, plain_var, plain_cov = _moments(fields, batch, box)
    _, variance, covariance = _moments(fields, batch, gaussian_kernel(size, SIGMA, fields))
    between = plain_cov[:, 0]
    norm = plain_var[:, :2].sqrt() * size + NOT_ZERO  # (H', 2, B, W')
    summed = (plain_var[:, 0] + plain_var[:, 1] + 2.0 * between).clamp_(min=0.0).sqrt_()
    apart = plain_var[:, 0].sqrt() + plain_var[:, 1].sqrt()
    tiny = torch.finfo(torch.float64).eps
    consistency = ((summed + tiny) / (apart + tiny)).clamp_(max=1.0 - tiny)
    exponent = (consistency * (math.pi / 2)).tan_().clamp_(max=MAX_EXPONENT)[:, None]
    weight = (norm / size).pow_(exponent) + tiny
    weight = weight / weight.sum(dim=1, keepdim=True) / norm

    def norm_sq(variances: Tensor, cov: Tensor) -> Tensor:
        own = (weight.square() * variances[:, :2]).sum(dim=1)
        return (own + 2.0 * weight[:, 0] * weight[:, 1] * cov).clamp_(min=0.0)

    length = norm_sq(plain_var, between).sqrt_() * size
    flat = length == 0
    scale = torch.where(flat, 1.0, norm.amax(dim=1) / torch.where(flat, 1.0, length))
    wanted_var = norm_sq(variance, covariance[:, 0]) * scale.square()
    wanted_cov = (weight * covariance[:, 1:3]).sum(dim=1) * scale
    score = (2.0 * wanted_cov + C2) / (wanted_var + variance[:, 2] + C2)
    return score.mean(dim=(0, 2))


def _wang_scores(fields: Tensor, batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the mean contrast-structure term and the mean SSIM of one scale, each (2, B)."""
    mean, variance, covariance = _moments(fields, batch, gaussian_kernel(size, SIGMA, fields))
    contrast = (2.0 * covariance[:, 1:] + C2) / (variance[:, :2] + variance[:, 2:] + C2)
    source, fused = mean[:, :2], mean[:, 2:]
    luminance = (2.0 * source * fused + C1) / (source.square() + fused.square() + C1)
    return contrast.mean(dim=(0, 3)), (luminance * contrast).mean(dim=(0, 3))


def _halved(fields: Tensor, *, symmetric: bool) -> Tensor:
    """Average 2 x 2 pixels and keep every second.

    Along an odd side, the last pixel is averaged with itself where symmetric; else the first with
    a zero before it, and the pairs start there.
    """
    for axis in (0, 2):
        if fields.shape[axis] % 2:
            edge = fields.narrow(axis, fields.shape[axis] - 1 if symmetric else 0, 1)
            both = (fields, edge) if symmetric else (torch.zeros_like(edge), fields)
            fields = torch.cat(both, dim=axis)
    rows = fields[0::2] + fields[1::2]
    return (rows[..., 0::2] + rows[..., 1::2]).div_(4.0)


def _weighted_product(scores: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    used = weights[: len(scores)]
    product = torch.ones_like(scores[0])
    for score, weight in zip(scores, used, strict=True):
        product = product * score.clamp(min=0.0) ** (weight / sum(used))
    return product
