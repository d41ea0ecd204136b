"""A pair as the network takes it: luminance in [0, 1], the chroma to restore, and where data are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmnet_core.color import rgb_to_chroma, rgb_to_y
from dmnet_core.ranges import Mask, check_range_policy, find_border, to_unit, value_range

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
        return _both(self.ir_valid, self.vis_valid)

    @property
    def valid_share(self) -> float:
        """Share of the pixels at which both images have data."""
        return 1.0 if self.valid is None else float(self.valid.mean())


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
    `ranges.find_border`). They take no part in the ranges. In their place an image gets the luminance of
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
    for image, side in ((ir, "infrared"), (vis, "visible")):
        _check_array(image, side)
    if ir.shape[:2] != vis.shape[:2]:
        raise SizeMismatch(
            f"infrared is {ir.shape[0]} x {ir.shape[1]} px and visible is {vis.shape[0]} x "
            f"{vis.shape[1]} px (height x width), expected one size: register or resample the pair"
        )
    if min(ir.shape[:2]) < MIN_SIDE:
        raise TooSmall(
            f"the images are {ir.shape[0]} x {ir.shape[1]} px (height x width), expected at least "
            f"{MIN_SIDE} x {MIN_SIDE}"
        )
    ir_unit, ir_range, ir_valid = _unit(ir, "infrared", reading.ir_range, ir_valid)
    vis_unit, vis_range, vis_valid = _unit(vis, "visible", reading.vis_range, vis_valid)
    valid = _both(ir_valid, vis_valid)
    if valid is not None and not valid.any():
        raise NoOverlap(
            "no pixel has data in both images, expected a part that both show: check how the pair was "
            "registered and what its files declare as no data"
        )
    ir_y, vis_y = (rgb_to_y(unit) if unit.ndim == 3 else unit for unit in (ir_unit, vis_unit))
    chroma = _chroma({"vis": (vis_unit, vis_y), "ir": (ir_unit, ir_y)}, reading.colour)
    filled = _filled(ir_y, ir_valid, vis_y, vis_valid), _filled(vis_y, vis_valid, ir_y, ir_valid)
    return PreparedPair(*filled, chroma, ir_range, vis_range, ir_valid, vis_valid)


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


def _unit(
    image: NDArray[np.generic], side: str, policy: str, valid: Mask | None
) -> tuple[Float, tuple[float, float], Mask | None]:
    """Return an image in [0, 1], (H, W) or (H, W, 3), its range, and where it has data."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.dtype.kind == "f":
        finite = np.isfinite(image) if image.ndim == 2 else np.isfinite(image).all(axis=2)
        valid = _both(valid, None if finite.all() else finite)
    if (border := find_border(image, valid)) is not None:
        valid = _both(valid, ~border)
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
    return unit, limits, valid


def _both(one: Mask | None, other: Mask | None) -> Mask | None:
    """Return where both masks are True; None stands for True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _filled(own: Float, own_valid: Mask | None, other: Float, other_valid: Mask | None) -> Float:
    """Return an image's luminance, without data that of the other one or the image's own mean."""
    if own_valid is None:
        return own
    mean = own[own_valid].mean()
    return np.where(own_valid, own, other if other_valid is None else np.where(other_valid, other, mean))


def _chroma(sides: dict[str, tuple[Float, Float]], colour: str) -> Float | None:
    """Return Cb and Cr of the side that `colour` names, or of the first that has any; None without."""
    for name, (unit, y) in sides.items():
        asked = colour in ("auto", name)
        if asked and unit.ndim == 3 and not (unit == unit[..., :1]).all():
            return rgb_to_chroma(unit, y)
    return None
