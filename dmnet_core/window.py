"""The windows of a large image: which pixels each covers.

An image larger than memory is fused and scored window by window. A window is an array of pixels: a core
with a halo around it. The cores tile the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

WHOLE = 1.25
"""Largest image that is fused whole, in areas of a window: 1280 x 1024 pixels with windows of 1024."""
HALO = 176
"""Halo in pixels with which every metric can be merged: the reach of MS-SSIM-Wang, whose 11 x 11 filter
covers 176 pixels at the fifth scale. VIF needs 40, MS-SSIM 44, the others 1."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """What a window covers along one axis, in pixels of its image."""

    length: int
    """Length of the image."""
    start: int
    """Index of the first pixel of the window's array."""
    stop: int
    """Index after the last pixel of the window's array."""
    first: int
    """Index of the first pixel of the core."""
    last: int
    """Index after the last pixel of the core."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.first <= self.last <= self.stop <= self.length:
            raise ValueError(
                f"window's span is {self}, expected 0 <= start <= first <= last <= stop <= length: "
                "the core lies within its array and the array within the image"
            )

    def owned(self, size: int, scale: int) -> tuple[int, int]:
        """Return the first filter position that belongs to the core and the one after the last.

        Args:
            size: width of the filter, in pixels.
            scale: number of halvings so far, for the message.

        Returns:
            Indices into the window's array of the first pixel under the filter.

        Raises:
            ValueError: the halo is too narrow for the filter.
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
        """Return the span at half the size, for an array from start to stop of an image of length."""
        first, last = -(-self.first // 2), -(-self.last // 2)
        first, last = min(first, length), min(last, length)
        return Span(length=length, start=min(start, first), stop=max(stop, last), first=first, last=last)


@dataclass(frozen=True)
class Window:
    """What a window, its core and its halo cover of their image."""

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
        """Return the one window that covers an image, without a halo."""
        rows, columns = (
            Span(length=side, start=0, stop=side, first=0, last=side) for side in (height, width)
        )
        return cls(rows, columns)


def cut(height: int, width: int, core: int, halo: int = HALO) -> Iterator[Window]:
    """Yield the windows of an image: cores of `core` x `core` pixels, each with a halo around it.

    Args:
        height: height of the image, in pixels.
        width: width of the image, in pixels.
        core: side of a core, in pixels; cores at the right and the bottom may be smaller.
        halo: pixels around each core; fewer where the image ends.
    """
    for rows in range(0, height, core):
        for columns in range(0, width, core):
            yield Window(_span(height, rows, core, halo), _span(width, columns, core, halo))


def _span(length: int, first: int, core: int, halo: int) -> Span:
    """Return what the window whose core begins at `first` covers along one axis."""
    return Span(
        length=length,
        start=max(0, first - halo),
        stop=min(length, first + core + halo),
        first=first,
        last=min(length, first + core),
    )


def is_scene(height: int, width: int, window: int) -> bool:
    """Return whether an image is fused in windows of `window` x `window` pixels, and not whole."""
    return height * width > WHOLE * window * window


def count_windows(height: int, width: int, window: int) -> int:
    """Return the number of windows of a scene."""
    return -(-height // window) * -(-width // window)


def window_at(height: int, width: int, core: int, halo: int, number: int) -> Window:
    """Return one window of `cut`, by its number in that order from 0 on."""
    rows, columns = divmod(number, -(-width // core))
    return Window(_span(height, rows * core, core, halo), _span(width, columns * core, core, halo))
