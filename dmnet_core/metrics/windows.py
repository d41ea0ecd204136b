"""Where windows lie, and separable filters over them as matrix products.

Geometry. An image larger than memory is scored window by window: an array of pixels with a halo
around the core that the window answers for. Every filtered position of every scale belongs to the
one window whose core holds the pixel at its top left, so sums over windows are sums over the image.

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

ROWS, COLUMNS = 32, 48
"""Outputs that one product makes, along y and x; measured: of 16 to 64 the fastest on a CPU."""
HALO = 176
"""Pixels around a core that every metric can be merged with: the reach of MS-SSIM-Wang, whose 11 x 11
windows are 176 pixels wide at the fifth scale. VIF needs 40, MS-SSIM 44, the others 1."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One axis of a window, in pixels of its image."""

    length: int
    """Of the image."""
    start: int
    """First pixel of the array."""
    stop: int
    """Behind its last pixel."""
    first: int
    """First pixel of the core."""
    last: int
    """Behind the core's last pixel."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.first <= self.last <= self.stop <= self.length:
            raise ValueError(
                f"window's span is {self}, expected 0 <= start <= first <= last <= stop <= length: "
                "the core lies within its array and the array within the image"
            )

    def owned(self, size: int, scale: int) -> tuple[int, int]:
        """Return which windows of `size` pixels the core answers for, as places in the array.

        Args:
            size: of the filter.
            scale: of this span, for the message.

        Raises:
            ValueError: the array lacks the halo for them.
        """
        first, last = self.first, min(self.last, self.length - size + 1)
        if last <= first:
            return 0, 0
        if last - 1 + size > self.stop:
            raise ValueError(
                f"window's array ends at {self.stop} of {self.length} pixels (scale {scale + 1}), but "
                f"its core needs them up to {last - 1 + size}: give it a halo of {HALO} pixels"
            )
        return first - self.start, last - self.start

    def halved(self, start: int, stop: int, length: int) -> Span:
        """Return the span of the next scale, whose array was found to be from start to stop."""
        first, last = -(-self.first // 2), -(-self.last // 2)
        first, last = min(first, length), min(last, length)
        return Span(length=length, start=min(start, first), stop=max(stop, last), first=first, last=last)


@dataclass(frozen=True)
class Window:
    """Where a window lies in its image: both of its axes."""

    rows: Span
    columns: Span

    @property
    def at_right(self) -> bool:
        """Whether the core ends where the image does."""
        return self.columns.last == self.columns.length

    @property
    def at_bottom(self) -> bool:
        """Whether the core ends where the image does."""
        return self.rows.last == self.rows.length

    @classmethod
    def of_image(cls, height: int, width: int) -> Window:
        """Return the window of an image that is one window."""
        rows, columns = (
            Span(length=side, start=0, stop=side, first=0, last=side) for side in (height, width)
        )
        return cls(rows, columns)


def cut(height: int, width: int, core: int, halo: int = HALO) -> Iterator[Window]:
    """Yield the windows of an image: cores of `core` x `core` pixels, each with a halo around it.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        core: side of a core, pixels; those at the right and the bottom may be smaller.
        halo: pixels around it, fewer at the image's border.
    """

    def spans(length: int) -> list[Span]:
        return [
            Span(
                length=length,
                start=max(0, first - halo),
                stop=min(length, first + core + halo),
                first=first,
                last=min(length, first + core),
            )
            for first in range(0, length, core)
        ]

    for rows in spans(height):
        for columns in spans(width):
            yield Window(rows, columns)


def core_of(image: Tensor, window: Window, before: int = 0, after: int = 0) -> Tensor:
    """Return the core of an array with pixels around it, fewer where the image ends.

    Args:
        image: (..., H, W) of the window's array.
        window: of the array.
        before: pixels above and left of it.
        after: pixels below and right of it.

    Raises:
        ValueError: the array ends before they do.
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


@dataclass(frozen=True)
class Level:
    """One scale of several images: their pixels in the layout of the filters, and their window."""

    fields: Tensor
    """(H, N, W)."""
    window: Window

    def fitting_kernel(self, size: int) -> int:
        """Return the window side: `size` (odd), or the largest odd number that fits the image."""
        shorter = min(self.window.rows.length, self.window.columns.length)
        return min(size, (shorter - 1) // 2 * 2 + 1)

    def strips(self, size: int, scale: int) -> Iterator[Tensor]:
        """Yield the rows that the windows of the core need, ROWS rows of windows at a time.

        Each is (h + size - 1, N, w + size - 1) for the h x w windows that it stands for: few enough
        on a CPU that what is made of them stays in its cache, enough to be worth a call.
        """
        top, bottom = self.window.rows.owned(size, scale)
        left, right = self.window.columns.owned(size, scale)
        if right == left:
            return
        step = ROWS if self.fields.device.type == "cpu" else max(1, bottom - top)
        for row in range(top, bottom, step):
            last = min(row + step, bottom) + size - 1
            yield self.fields[row:last, :, left : right + size - 1]

    def averaged(self, *, symmetric: bool) -> Level:
        """Return the next scale: the mean of 2 x 2 pixels.

        Along an odd side, the last pixel is averaged with itself where symmetric; else the first
        with a zero before it, and the pairs start there.

        Args:
            symmetric: see above.
        """
        fields, rows = _paired(self.fields, self.window.rows, 0, symmetric=symmetric, zero=-MIDDLE)
        fields = fields[0::2] + fields[1::2]
        # two rows of zeros are summed already
        fields, columns = _paired(fields, self.window.columns, 2, symmetric=symmetric, zero=-2 * MIDDLE)
        return Level((fields[..., 0::2] + fields[..., 1::2]).mul_(0.25), Window(rows, columns))

    def decimated(self, kernel: Tensor) -> Level:
        """Return the next scale: filtered with valid windows, then every second pixel."""
        size = kernel.shape[0]
        spans, starts = [], []
        for span in (self.window.rows, self.window.columns):
            start, stop = -(-span.start // 2), max(0, (span.stop - size) // 2 + 1)
            spans.append(span.halved(start, stop, max(0, (span.length - size) // 2 + 1)))
            starts.append(2 * start - span.start)
        fields = self.fields[starts[0] :, :, starts[1] :]
        return Level(filter_fields(fields, kernel, step=2), Window(*spans))


def make_level(images: Tensor, window: Window, dtype: torch.dtype) -> Level:
    """Return the first scale of images (N, H, W), in the wanted type, with MIDDLE taken off."""
    fields = images.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format, copy=True)
    return Level(fields.sub_(MIDDLE), window)


def gaussian_kernel(size: int, sigma: float, like: Tensor) -> Tensor:
    """Return the (size,) Gaussian of unit sum, with the dtype and device of `like`."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-offset.square() / (2 * sigma * sigma))
    return (weights / weights.sum()).to(like)


def filter_fields(fields: Tensor, kernel: Tensor, step: int = 1) -> Tensor:
    """Filter each field with kernel x kernel, valid windows only, and keep every step-th.

    Args:
        fields: (H, N, W).
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


def _band_matrix(kernel: Tensor, step: int, outputs: int) -> Tensor:
    """Return the (outputs, (outputs-1)*step + K) matrix that filters a strip."""
    size = kernel.shape[0]
    band = kernel.new_zeros(outputs, (outputs - 1) * step + size)
    band.as_strided((outputs, size), (band.shape[1] + step, 1)).copy_(kernel)
    return band


def _paired(
    fields: Tensor, span: Span, axis: int, *, symmetric: bool, zero: float
) -> tuple[Tensor, Span]:
    """Return the whole pairs along an axis, and the span of their means."""
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
