"""The windows of a large image, and separable filters over them as matrix products.

Geometry. An image larger than memory is scored window by window. A window is an array of pixels: a core
with a halo around it. Every position of a filter, at every scale, belongs to the one window whose core
holds the top left pixel under the filter, so that sums over windows are sums over the image.

Filters. Along an axis a filter is a product with a band matrix. Cut into strips of outputs,
the band is nearly dense and one small matrix, shared by all strips, does it at the speed of a matrix
product. Strips of rows also keep what is computed from them in the CPU's cache.

Fields: maps of one size, (H, N, W). With N in the middle neither axis needs a copy: (H, N*W) is
filtered along y by a product from the left, (H*N, W) along x by one from the right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmnet_core.metrics.images import MIDDLE
from dmnet_core.window import HALO, Span, Window

ROWS, COLUMNS = 32, 48
"""Filtered pixels that one matrix product makes along y and along x; of 16 to 64, these were measured to
be the fastest on a CPU."""
def core_of(image: Tensor, window: Window, before: int = 0, after: int = 0) -> Tensor:
    """Return the core of a window with some of the pixels around it, fewer where the image ends.

    Args:
        image: (..., H, W), the window's array.
        window: what the array covers of its image.
        before: number of rows above and of columns left of the core.
        after: number of rows below and of columns right of the core.

    Raises:
        ValueError: the halo is narrower than that.
    """
    parts = []
    for span in (window.rows, window.columns):
        first, last = max(0, span.first - before), min(span.length, span.last + after)
        if first < span.start or last > span.stop:
            raise ValueError(
                f"window's array covers pixels {span.start} to {span.stop} of {span.length}, but its "
                f"core needs {first} to {last}: give it a halo of {HALO} pixels"
            )
        parts.append(slice(first - span.start, last - span.start))
    return image[..., parts[0], parts[1]]


def framed_core(images: Tensor, window: Window, outside: float) -> Tensor:
    """Return the core with one pixel more on each side: its neighbour, or a constant outside the image.

    Args:
        images: (..., H, W), the window's array.
        window: what the array covers of its image.
        outside: value of the pixels outside the image.
    """
    pixels = core_of(images, window, before=1, after=1)
    left, top = int(window.columns.first == 0), int(window.rows.first == 0)
    sides = (left, int(window.at_right), top, int(window.at_bottom))
    return torch.nn.functional.pad(pixels, sides, value=outside)


@dataclass(frozen=True)
class Level:
    """Several images at one scale."""

    fields: Tensor
    """(H, N, W) float32 or float64: N images, with the second axis for the images."""
    window: Window
    """What the fields cover of the images at this scale."""
    valid: Tensor | None = None
    """(H, B, W) float32: 1 for each pixel made of valid pixels only, 0 elsewhere; None where all are."""

    def fitting_kernel(self, size: int) -> int:
        """Return the filter's width: `size` (odd), or the largest odd number that fits the image."""
        shorter = min(self.window.rows.length, self.window.columns.length)
        return min(size, (shorter - 1) // 2 * 2 + 1)

    def strips(self, size: int, scale: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the pixels under the core's filter positions, ROWS rows of positions at a time.

        A strip is (h + size - 1, N, w + size - 1) for its h x w positions. On a CPU it is small enough
        that what is computed from it stays in the cache; on a GPU one strip covers the core. With each
        comes a mask (h, B, w): 1 for each position with only valid pixels under the filter, 0 elsewhere;
        None where all pixels are valid.
        """
        top, bottom = self.window.rows.owned(size, scale)
        left, right = self.window.columns.owned(size, scale)
        if right == left or bottom == top:
            return
        reach = size - 1
        known = None
        if self.valid is not None:
            known = _all_valid(self.valid[top : bottom + reach, :, left : right + reach], size)
        step = ROWS if self.fields.device.type == "cpu" else max(1, bottom - top)
        for row in range(top, bottom, step):
            last = min(row + step, bottom)
            pixels = self.fields[row : last + reach, :, left : right + reach]
            yield pixels, None if known is None else known[row - top : last - top]

    def averaged(self, *, symmetric: bool) -> Level:
        """Return the next scale: the mean of 2 x 2 pixels.

        Args:
            symmetric: along an odd side, whether the last pixel is averaged with itself; otherwise a
                zero is put before the first pixel, and the pairs start there.
        """
        fields, window = _averaged(self.fields, self.window, symmetric=symmetric, zero=-MIDDLE)
        if self.valid is None:
            return Level(fields, window)
        share, _ = _averaged(self.valid, self.window, symmetric=symmetric, zero=1.0)
        return Level(fields, window, (share == 1.0).to(share.dtype))

    def decimated(self, kernel: Tensor) -> Level:
        """Return the next scale: filtered without padding, then every second pixel."""
        size = kernel.shape[0]
        spans, starts = [], []
        for span in (self.window.rows, self.window.columns):
            start, stop = -(-span.start // 2), max(0, (span.stop - size) // 2 + 1)
            spans.append(span.halved(start, stop, max(0, (span.length - size) // 2 + 1)))
            starts.append(2 * start - span.start)
        pixels = (slice(starts[0], None), slice(None), slice(starts[1], None))
        fields = filter_fields(self.fields[pixels], kernel, step=2)
        valid = None if self.valid is None else _all_valid(self.valid[pixels], size, step=2)
        return Level(fields, Window(*spans), valid)


def make_level(images: Tensor, window: Window, dtype: torch.dtype, valid: Tensor | None) -> Level:
    """Return the first scale.

    Args:
        images: (N, H, W) grey levels; MIDDLE is subtracted from them.
        window: what the arrays cover of their images.
        dtype: float32 or float64, of the fields.
        valid: (B, H, W) float32, 1 for each valid pixel and 0 elsewhere; None where all are.
    """
    fields = images.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format, copy=True)
    return Level(fields.sub_(MIDDLE), window, None if valid is None else valid.transpose(0, 1))


def gaussian_kernel(size: int, sigma: float, like: Tensor) -> Tensor:
    """Return the (size,) Gaussian of unit sum, with the dtype and device of `like`."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-offset.square() / (2 * sigma * sigma))
    return (weights / weights.sum()).to(like)


def filter_fields(fields: Tensor, kernel: Tensor, step: int = 1) -> Tensor:
    """Filter each field with kernel x kernel, without padding, and keep every step-th pixel.

    Args:
        fields: (H, N, W) float32 or float64.
        kernel: (K,) symmetric, K <= H and W, of the same dtype.
        step: 1, or 2 to halve the size.

    Returns:
        (ceil((H-K+1) / step), N, ceil((W-K+1) / step)).
    """
    height, num_fields, width = fields.shape
    size = kernel.shape[0]
    out_height = (height - size) // step + 1
    out_width = (width - size) // step + 1
    rows = fields.reshape(height, num_fields * width)
    tall = fields.new_empty(out_height, num_fields * width)
    band = _band_matrix(kernel, step, min(ROWS, out_height))
    for start in range(0, out_height, ROWS):
        count = min(ROWS, out_height - start)
        span = (count - 1) * step + size
        first = start * step
        torch.mm(band[:count, :span], rows[first : first + span], out=tall[start : start + count])
    columns = tall.view(out_height * num_fields, width)
    out = fields.new_empty(out_height * num_fields, out_width)
    band = _band_matrix(kernel, step, min(COLUMNS, out_width)).T
    for start in range(0, out_width, COLUMNS):
        count = min(COLUMNS, out_width - start)
        span = (count - 1) * step + size
        first = start * step
        torch.mm(
            columns[:, first : first + span],
            band[:span, :count],
            out=out[:, start : start + count],
        )
    return out.view(out_height, num_fields, out_width)


def _all_valid(valid: Tensor, size: int, step: int = 1) -> Tensor:
    """Return 1 where all pixels under a filter of size x size are 1, else 0, at every step-th position.

    Args:
        valid: (H, B, W) float32 of 1 and 0, whose sums are exact.
        size: width of the filter, in pixels.
        step: 1, or 2 to halve the size.
    """
    counts = filter_fields(valid, valid.new_ones(size), step)
    return (counts == size * size).to(valid.dtype)


def _band_matrix(kernel: Tensor, step: int, outputs: int) -> Tensor:
    """Return the (outputs, (outputs-1)*step + K) matrix that filters a strip."""
    size = kernel.shape[0]
    band = kernel.new_zeros(outputs, (outputs - 1) * step + size)
    band.as_strided((outputs, size), (band.shape[1] + step, 1)).copy_(kernel)
    return band


def _averaged(fields: Tensor, window: Window, *, symmetric: bool, zero: float) -> tuple[Tensor, Window]:
    """Return the means of 2 x 2 pixels and their window; `zero` and `symmetric` as for `_paired`."""
    fields, rows = _paired(fields, window.rows, 0, symmetric=symmetric, zero=zero)
    fields = fields[0::2] + fields[1::2]
    # two rows of zeros are summed already
    fields, columns = _paired(fields, window.columns, 2, symmetric=symmetric, zero=2 * zero)
    return (fields[..., 0::2] + fields[..., 1::2]).mul_(0.25), Window(rows, columns)


def _paired(
    fields: Tensor, span: Span, axis: int, *, symmetric: bool, zero: float
) -> tuple[Tensor, Span]:
    """Return an even number of pixels along an axis, whose pairs are to be averaged, and their span."""
    shift = span.length % 2 if not symmetric else 0  # pair k is pixels 2 k - shift and the next
    start = -(-(span.start + shift) // 2) if span.start > 0 else 0
    stop = (span.stop + shift) // 2
    if span.stop == span.length:
        stop = -(-span.length // 2)
    begin, end = 2 * start - shift, 2 * stop - shift
    first, last = max(begin, 0), min(end, span.length)
    pairs = fields.narrow(axis, first - span.start, last - first)
    if begin < 0:
        pairs = torch.cat([torch.full_like(pairs.narrow(axis, 0, 1), zero), pairs], dim=axis)
    if end > span.length:
        pairs = torch.cat([pairs, pairs.narrow(axis, last - first - 1, 1)], dim=axis)
    halved = span.halved(start, stop, -(-span.length // 2))
    return pairs, replace(halved, start=start, stop=stop)
