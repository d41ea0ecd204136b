"""Separable filters over valid windows, as matrix products.

A filter along an axis is a product with a band matrix. Cut into strips of STRIP outputs, the
band is nearly dense and one small matrix, shared by all strips, does it at the speed of a matrix
product: several times faster than float64 convolution on a CPU.

Fields: maps of one size, (H, N, W). With N in the middle neither axis needs a copy: (H, N*W) is
filtered along y by a product from the left, (H*N, W) along x by one from the right.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIP = 32


def gaussian_kernel(size: int, sigma: float, like: Tensor) -> Tensor:
    """Return the (size,) Gaussian of unit sum, with the dtype and device of `like`."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-offset.square() / (2 * sigma * sigma))
    return (weights / weights.sum()).to(like)


def fitting_window(size: int, height: int, width: int) -> int:
    """Return the window side: `size` (odd), or the largest odd number that fits the image."""
    return min(size, (min(height, width) - 1) // 2 * 2 + 1)


def filter_fields(fields: Tensor, kernel: Tensor, step: int = 1) -> Tensor:
    """Filter each field with kernel x kernel, valid windows only, and keep every step-th.

    Args:
        fields: (H, N, W), contiguous.
        kernel: (K,) symmetric, K <= H and W, of the same dtype.
        step: 1, or 2 to halve the size.

    Returns:
        (ceil((H-K+1) / step), N, ceil((W-K+1) / step)).
    """
    height, num_fields, width = fields.shape
    size = kernel.shape[0]
    out_height = (height - size) // step + 1
    out_width = (width - size) // step + 1
    band = _band_matrix(kernel, step)  # (STRIP, (STRIP-1)*step + K)
    rows = fields.reshape(height, num_fields * width)
    tall = fields.new_empty(out_height, num_fields * width)
    for start in range(0, out_height, STRIP):
        count = min(STRIP, out_height - start)
        span = (count - 1) * step + size
        first = start * step
        torch.mm(band[:count, :span], rows[first : first + span], out=tall[start : start + count])
    columns = tall.view(out_height * num_fields, width)
    out = fields.new_empty(out_height * num_fields, out_width)
    for start in range(0, out_width, STRIP):
        count = min(STRIP, out_width - start)
        span = (count - 1) * step + size
        first = start * step
        torch.mm(
            columns[:, first : first + span],
            band[:count, :span].T,
            out=out[:, start : start + count],
        )
    return out.view(out_height, num_fields, out_width)


def _band_matrix(kernel: Tensor, step: int) -> Tensor:
    size = kernel.shape[0]
    band = kernel.new_zeros(STRIP, (STRIP - 1) * step + size)
    for row in range(STRIP):
        band[row, row * step : row * step + size] = kernel
    return band
