"""A pair as the network takes it: luminance in [0, 1], the chroma to restore, and where data are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dmnet_core.color import rgb_to_chroma, rgb_to_y
from dmnet_core.ranges import (
    Mask,
    around_border,
    check_range_policy,
    find_borders,
    mixed_edge,
    to_unit,
    value_range,
)

MIN_SIDE = 8
COLOURS = ("auto", "ir", "vis", "none")
Float = NDArray[np.float32]


class SizeMismatch(ValueError):
    """The infrared and the visible image differ in height or width."""

    reason = "size_mismatch"
    """Code of the reason in a table of rejected pairs."""


class TooSmall(ValueError):
    """An image is less than MIN_SIDE pixels high or wide."""

    reason = "too_small"
    """Code of the reason in a table of rejected pairs."""


class NoFinitePixels(ValueError):
    """An image has no pixel with data."""

    reason = "no_finite_pixels"
    """Code of the reason in a table of rejected pairs."""


class NoOverlap(ValueError):
    """No pixel has data in both images."""

    reason = "no_overlap"
    """Code of the reason in a table of rejected pairs."""


class FlatRange(ValueError):
    """A range of source values leaves one grey level of an image that has several."""

    reason = "flat_range"
    """Code of the reason in a table of rejected pairs."""


@dataclass(frozen=True)
class Reading:
    """How the images of a pair are read."""

    ir_range: str = "auto"
    """How infrared values are mapped to [0, 1]: a policy of dmnet_core.ranges."""
    vis_range: str = "auto"
    """How visible values are mapped to [0, 1]: a policy of dmnet_core.ranges."""
    colour: str = "auto"
    """Whose colour the fused image has, one of COLOURS; auto: the visible's, the infrared's where only
    that has colour."""

    def __post_init__(self) -> None:
        check_range_policy(self.ir_range, "infrared")
        check_range_policy(self.vis_range, "visible")
        if self.colour not in COLOURS:
            raise ValueError(f"colour is {self.colour!r}, expected one of {', '.join(COLOURS)}")


DEFAULT = Reading()


@dataclass(frozen=True)
class PreparedPair:
    """One pair in the form that the network takes."""

    ir: Float
    """(H, W) infrared luminance in [0, 1]."""
    vis: Float
    """(H, W) visible luminance in [0, 1]."""
    chroma: Float | None
    """(H, W, 2) Cb and Cr that the fused image gets; None where it is to be grey."""
    ir_range: tuple[float, float]
    """Infrared source values that were mapped to 0 and to 1."""
    vis_range: tuple[float, float]
    """Visible source values that were mapped to 0 and to 1."""
    ir_valid: Mask | None = None
    """(H, W), False where the infrared image has no data; None where it has data everywhere."""
    vis_valid: Mask | None = None
    """(H, W), False where the visible image has no data; None where it has data everywhere."""

    @property
    def valid(self) -> Mask | None:
        """(H, W), True where both images have data; None where they have data everywhere."""
        return both(self.ir_valid, self.vis_valid)

    @property
    def valid_share(self) -> float:
        """Share of the pixels at which both images have data."""
        return 1.0 if self.valid is None else float(self.valid.mean())

    def cropped(self, rows: slice, columns: slice) -> PreparedPair:
        """Return the pair's pixels of these rows and columns, without a copy."""
        at = rows, columns
        return replace(
            self,
            ir=self.ir[at],
            vis=self.vis[at],
            chroma=None if self.chroma is None else self.chroma[at],
            ir_valid=None if self.ir_valid is None else self.ir_valid[at],
            vis_valid=None if self.vis_valid is None else self.vis_valid[at],
        )


def prepare_pair(
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    reading: Reading = DEFAULT,
    *,
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
) -> PreparedPair:
    """Convert a pair to luminance in [0, 1] and the chroma of the side that gives the colour.

    No data are pixels that a mask leaves out, that are not finite, or that belong to a border (see
    `ranges.find_borders`). They take no part in the ranges. In their place an image gets the luminance of
    the other one, and where that has none either its own mean, so that they add no structure.

    Args:
        ir: (H, W), (H, W, 1) or (H, W, 3), any real type.
        vis: the same height and width, with one or three channels too.
        reading: how source values are mapped to [0, 1], and whose colour is kept.
        ir_valid: (H, W), False where the infrared file has no data; None where it has data everywhere.
        vis_valid: the same of the visible file.

    Raises:
        SizeMismatch: the images differ in height or width.
        TooSmall: an image is less than MIN_SIDE pixels high or wide.
        NoFinitePixels: an image has no pixel with data.
        NoOverlap: no pixel has data in both images.
        FlatRange: the given range leaves one grey level of an image that has several.
        TypeError: an image is no NumPy array.
        ValueError: an image has another number of axes or channels.
    """
    check_images(ir, vis)
    check_size(*ir.shape[:2])
    one = read_side(ir, "infrared", reading.ir_range, ir_valid)
    other = read_side(vis, "visible", reading.vis_range, vis_valid)
    check_overlap(one.valid, other.valid)
    colour = colour_side(one.unit, other.unit, reading.colour)
    return joined(one, other, (one.fill, other.fill), colour)


@dataclass(frozen=True)
class Side:
    """One image of a pair in [0, 1], before the other one fills what it lacks."""

    unit: Float
    """(H, W) or (H, W, 3) in [0, 1]."""
    limits: tuple[float, float]
    """Source values that were mapped to 0 and to 1."""
    valid: Mask | None
    """(H, W), False where the image has no data; None where it has data everywhere."""
    border_limits: tuple[tuple[float, float], ...] = ()
    """Least and greatest source value of each border without data that was found."""
    around: Mask | None = None
    """(H, W), True on borders without data and where pixels of an overview may be mixed with them; None
    where there is no border."""

    @cached_property
    def luminance(self) -> Float:
        """(H, W) in [0, 1]."""
        return rgb_to_y(self.unit) if self.unit.ndim == 3 else self.unit

    @property
    def fill(self) -> np.float32:
        """Mean luminance of the pixels with data, of which there must be one."""
        luminance = self.luminance
        mean: np.float32 = (luminance if self.valid is None else luminance[self.valid]).mean()
        return mean


def check_images(ir: NDArray[np.generic], vis: NDArray[np.generic]) -> None:
    """Raise the errors of `prepare_pair` that tell of images which are no pair: a type or a shape."""
    for image, side in ((ir, "infrared"), (vis, "visible")):
        _check_array(image, side)
    if ir.shape[:2] != vis.shape[:2]:
        raise SizeMismatch(
            f"infrared is {ir.shape[0]} x {ir.shape[1]} px and visible is {vis.shape[0]} x "
            f"{vis.shape[1]} px (height x width), expected one size: register or resample the pair"
        )


def check_size(height: int, width: int) -> None:
    """Raise TooSmall where a side has less than MIN_SIDE pixels."""
    if min(height, width) < MIN_SIDE:
        raise TooSmall(
            f"the images are {height} x {width} px (height x width), expected at least "
            f"{MIN_SIDE} x {MIN_SIDE}"
        )


def check_overlap(ir_valid: Mask | None, vis_valid: Mask | None) -> None:
    """Raise NoOverlap where no pixel has data in both images."""
    valid = both(ir_valid, vis_valid)
    if valid is not None and not valid.any():
        raise NoOverlap(
            "no pixel has data in both images, expected a part that both show: check how the pair was "
            "registered and what its files declare as no data"
        )


def _check_array(image: NDArray[np.generic], side: str) -> None:
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{side} is a {type(image).__module__}.{type(image).__qualname__}, expected a NumPy array: "
            'convert an image of Pillow by numpy.asarray(image.convert("RGB")), or "L" where it is grey, '
            "and a tensor of (C, H, W) by tensor.permute(1, 2, 0).numpy()"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(
            f"{side} has shape {image.shape}, expected (H, W), (H, W, 1) or (H, W, 3)"
        )


def without_channel(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return (H, W, 1) as (H, W), and (H, W) and (H, W, 3) as they are."""
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def finite_pixels(image: NDArray[np.generic], valid: Mask | None) -> Mask | None:
    """Return where a mask is True and all channels are finite; None where that is everywhere."""
    if image.dtype.kind != "f":
        return valid
    finite = np.isfinite(image) if image.ndim == 2 else np.isfinite(image).all(axis=2)
    return both(valid, None if finite.all() else finite)


def read_side(
    image: NDArray[np.generic], side: str, policy: str, valid: Mask | None, margin: int = 0
) -> Side:
    """Find an image's pixels without data and its range, and map it to [0, 1].

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), any real type.
        side: "infrared" or "visible", for messages.
        policy: how source values are mapped to [0, 1].
        valid: (H, W), False where there are no data; None where there are data everywhere.
        margin: distance in pixels to which pixels around a border may be mixed with it, as in an
            overview: they count as pixels without data.

    Raises:
        NoFinitePixels: the image has no pixel with data.
        FlatRange: the given range leaves one grey level of an image that has several.
    """
    image = without_channel(image)
    valid = finite_pixels(image, valid)
    borders = find_borders(image, valid, margin)
    masks = [border.mask for border in borders]
    if borders:
        masks = [around_border(image, np.logical_or.reduce(masks), valid, margin)]
    if margin and (mixed := mixed_edge(image, valid, margin)) is not None:
        borders, masks = [*borders, mixed], [*masks, mixed.mask]
    around = np.logical_or.reduce(masks) if masks else None
    if around is not None:
        valid = both(valid, ~around)
    if valid is not None and not valid.any():
        raise NoFinitePixels(
            f"{side} has no pixel with data, expected finite numbers that the file does not declare as "
            "no data: check the sensor's file"
        )
    limits = value_range(image, policy, valid)
    unit = to_unit(image, *limits)
    seen, source = (unit, image) if valid is None else (unit[valid], image[valid])
    if seen.min() == seen.max() and source.min() != source.max():
        low, high = (f"{float(value):g}" for value in (source.min(), source.max()))
        raise FlatRange(
            f"{side} has values from {low} to {high}, of which the range {limits[0]:g} to {limits[1]:g} "
            "leaves one grey level, expected a range that they lie in: give the side another range"
        )
    border_limits = dict.fromkeys((border.low, border.high) for border in borders)
    return Side(unit, limits, valid, tuple(border_limits), around)


def both(one: Mask | None, other: Mask | None) -> Mask | None:
    """Return where both masks are True; None stands for True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def colour_side(ir: Float, vis: Float, colour: str) -> str:
    """Return the side that gives the colour, "vis" or "ir": the first that is asked for and has any.

    Args:
        ir: (H, W) or (H, W, 3) in [0, 1].
        vis: the same of the visible image.
        colour: one of COLOURS.

    Returns:
        "vis", "ir", or "none" where the fused image is to be grey.
    """
    for name, unit in (("vis", vis), ("ir", ir)):
        asked = colour in ("auto", name)
        if asked and unit.ndim == 3 and not (unit == unit[..., :1]).all():
            return name
    return "none"


def joined(ir: Side, vis: Side, fills: tuple[np.float32, np.float32], colour: str) -> PreparedPair:
    """Return the pair of two sides: each filled where it has no data, with the chroma of one.

    Args:
        ir: infrared side.
        vis: visible side, of the same size.
        fills: luminance of the infrared and of the visible image where neither has data.
        colour: side that gives the chroma, as `colour_side` returns it.
    """
    ir_y, vis_y = ir.luminance, vis.luminance
    chroma = None
    if colour != "none":
        chroma = rgb_to_chroma(vis.unit, vis_y) if colour == "vis" else rgb_to_chroma(ir.unit, ir_y)
    return PreparedPair(
        _filled(ir_y, ir.valid, vis_y, vis.valid, fills[0]),
        _filled(vis_y, vis.valid, ir_y, ir.valid, fills[1]),
        chroma,
        ir.limits,
        vis.limits,
        ir.valid,
        vis.valid,
    )


def _filled(
    own: Float, own_valid: Mask | None, other: Float, other_valid: Mask | None, fill: np.float32
) -> Float:
    """Return an image's luminance, without data that of the other one, and `fill` where that has none."""
    if own_valid is None:
        return own
    return np.where(own_valid, own, other if other_valid is None else np.where(other_valid, other, fill))
