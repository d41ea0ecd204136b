"""How a scene's source values are read: found once on overviews, then the same for each of its windows.

Flow: `overview_of` reduces both images of a scene to a few pixels, `read_scene` finds by these what
`prepare_pair` of dmnet_core.prepare finds by a whole image (value ranges, borders without data, the fill
and whose colour is kept), and `prepare_window` applies it to one window. What becomes of a pixel then
depends on its own source values and on its place in the scene, and on no window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmnet_core.prepare import (
    DEFAULT,
    Float,
    PreparedPair,
    Reading,
    Side,
    both,
    check_images,
    check_overlap,
    check_size,
    colour_side,
    finite_pixels,
    joined,
    read_side,
    without_channel,
)
from dmnet_core.ranges import Mask, to_unit

OVERVIEW = 1024
"""Longer side of the overviews that a scene is read by, in pixels, at most."""
MIXED = 1
"""Distance, in pixels of an overview, to which its pixels may be mixed with a border without data."""


@dataclass(frozen=True)
class SideReading:
    """How the source values of one image of a scene are read."""

    limits: tuple[float, float]
    """Source values that are mapped to 0 and to 1."""
    fill: float
    """Luminance in [0, 1] where neither image has data: the image's mean over its data."""
    border_limits: tuple[tuple[float, float], ...] = ()
    """Least and greatest source value of each border without data; none where there is no border."""
    border: Mask | None = None
    """(h, w) of the overview, True on the border and where pixels may be mixed with it; None where there
    is none."""


@dataclass(frozen=True)
class SceneReading:
    """How the source values of a scene are read, in all of its windows."""

    height: int
    """Height of the scene, in pixels."""
    width: int
    """Width of the scene, in pixels."""
    step: int
    """Pixels of the scene along each side of an overview's pixel."""
    ir: SideReading
    """How the infrared image is read."""
    vis: SideReading
    """How the visible image is read."""
    colour: str
    """Side that gives the colour: "vis", "ir", or "none" where the fused image is grey."""


def overview_step(height: int, width: int) -> int:
    """Return by which whole number a scene is to be reduced, to OVERVIEW pixels a side at most."""
    return -(-max(height, width) // OVERVIEW)


def overview_of(
    image: NDArray[np.generic], valid: Mask | None, step: int
) -> tuple[NDArray[np.generic], Mask | None]:
    """Reduce an image by a whole number: means of squares, over pixels with data.

    Rows may be given band by band: where each but the last has a multiple of `step` rows, the results
    one below the other are that of the whole image.

    Args:
        image: (H, W) or (H, W, C), any real type.
        valid: (H, W), False where there are no data; None where there are data everywhere.
        step: number of the image's pixels along a side of each square; fewer at the right and below.

    Returns:
        The overview, (H / step, W / step) or (H / step, W / step, C) with sides rounded up, in the
        image's type and 0 without data; and where it has data, or None where it has data everywhere.
    """
    valid = finite_pixels(image, valid)
    sides = [np.arange(0, length, step) for length in image.shape[:2]]

    def sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
        rows = np.add.reduceat(values, sides[0], axis=0, dtype=np.float64)
        columns: NDArray[np.float64] = np.add.reduceat(rows, sides[1], axis=1)
        return columns

    if valid is None:
        heights, widths = (np.diff([*side, n]) for side, n in zip(sides, image.shape[:2], strict=True))
        counts = np.multiply.outer(heights, widths).astype(np.float64)
        total = sums(image)
    else:
        counts = sums(valid)
        total = sums(np.where(valid if image.ndim == 2 else valid[..., None], image, 0))
    divisor = np.maximum(counts, 1)
    means = total / (divisor if image.ndim == 2 else divisor[..., None])
    overview = np.rint(means) if image.dtype.kind in "iu" else means
    seen = counts > 0
    return overview.astype(image.dtype), None if seen.all() else seen


def read_scene(
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    reading: Reading = DEFAULT,
    *,
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
    height: int,
    width: int,
) -> SceneReading:
    """Find how a scene is to be read, by overviews of it.

    Args:
        ir: (h, w), (h, w, 1) or (h, w, 3) overview in the type of the source, as of `overview_of`.
        vis: the same height and width, with one or three channels too.
        reading: how source values are mapped to [0, 1], and whose colour is kept.
        ir_valid: (h, w), False where the infrared overview has no data; None where it has it everywhere.
        vis_valid: the same of the visible overview.
        height: height of the scene, in pixels.
        width: width of the scene, in pixels.

    Raises:
        ValueError: the overviews are not the scene reduced by a whole number, or what `prepare_pair`
            raises for a whole image: SizeMismatch, TooSmall, NoFinitePixels, NoOverlap, FlatRange.
        TypeError: an overview is no NumPy array.
    """
    check_images(ir, vis)
    check_size(height, width)
    step = _step(ir.shape[:2], height, width)
    one = read_side(ir, "infrared", reading.ir_range, ir_valid, MIXED)
    other = read_side(vis, "visible", reading.vis_range, vis_valid, MIXED)
    check_overlap(one.valid, other.valid)
    colour = colour_side(_with_data(one), _with_data(other), reading.colour)
    return SceneReading(height, width, step, _reading(one), _reading(other), colour)


def _step(shape: tuple[int, ...], height: int, width: int) -> int:
    """Return by which whole number a scene was reduced to an overview of a shape, (h, w)."""
    longer = int(width > height)
    step = -(-(height, width)[longer] // max(1, shape[longer]))
    expected = (-(-height // step), -(-width // step))
    if shape != expected:
        raise ValueError(
            f"the overviews are {shape[0]} x {shape[1]} px (height x width), expected {expected[0]} x "
            f"{expected[1]}: the scene of {height} x {width} px reduced by {step}"
        )
    return step


def _with_data(side: Side) -> Float:
    """Return the pixels with data, (1, N) or (1, N, 3), since others may have any colour."""
    return side.unit if side.valid is None else side.unit[side.valid][None]


def _reading(side: Side) -> SideReading:
    return SideReading(side.limits, float(side.fill), side.border_limits, side.around)


def prepare_overview(
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    reading: SceneReading,
    *,
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
) -> PreparedPair:
    """Return the overviews that a scene was read by as `dmnet_core.survey.plan_samples` takes them.

    Args:
        ir: infrared overview, as it was given to `read_scene`.
        vis: visible overview.
        reading: what `read_scene` found.
        ir_valid: (h, w), where the infrared overview has data; None where it has data everywhere.
        vis_valid: the same of the visible overview.
    """
    check_images(ir, vis)
    return joined(
        _side(ir, reading.ir, ir_valid, reading.ir.border),
        _side(vis, reading.vis, vis_valid, reading.vis.border),
        (np.float32(reading.ir.fill), np.float32(reading.vis.fill)),
        reading.colour,
    )


def prepare_window(
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    scene_reading: SceneReading,
    y: int,
    x: int,
    *,
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
) -> PreparedPair:
    """Convert a window of a scene to luminance in [0, 1] and chroma, as `prepare_pair` does a whole pair.

    A pixel belongs to a border without data where it has a value of the border and lies where the
    overview has the border or may be mixed with it. A window may be without any data.

    Args:
        ir: (h, w), (h, w, 1) or (h, w, 3) source values of the window.
        vis: the same height and width, with one or three channels too.
        scene_reading: what `read_scene` found for the scene.
        y: row of the window's first pixel in the scene.
        x: column of the window's first pixel in the scene.
        ir_valid: (h, w), False where the infrared file has no data; None where it has data everywhere.
        vis_valid: the same of the visible file.

    Raises:
        SizeMismatch: the images differ in height or width.
        TypeError: an image is no NumPy array.
        ValueError: an image has another number of axes or channels, or lies outside the scene.
    """
    check_images(ir, vis)
    height, width = ir.shape[:2]
    scene = scene_reading.height, scene_reading.width
    if not (0 <= y <= scene[0] - height and 0 <= x <= scene[1] - width):
        raise ValueError(
            f"the window has rows {y} to {y + height} and columns {x} to {x + width}, expected some of "
            f"the scene's {scene[0]} x {scene[1]} px (height x width)"
        )
    step = scene_reading.step
    at = np.ix_(np.arange(y, y + height) // step, np.arange(x, x + width) // step)

    def side(image: NDArray[np.generic], reading: SideReading, valid: Mask | None) -> Side:
        if reading.border is None:
            return _side(image, reading, valid, None)
        border = np.zeros((height, width), bool)
        values: NDArray[Any] = image.reshape(height, width, -1)
        for low, high in reading.border_limits:
            border |= ((values >= low) & (values <= high)).all(axis=2)
        return _side(image, reading, valid, border & reading.border[at])

    return joined(
        side(ir, scene_reading.ir, ir_valid),
        side(vis, scene_reading.vis, vis_valid),
        (np.float32(scene_reading.ir.fill), np.float32(scene_reading.vis.fill)),
        scene_reading.colour,
    )


def _side(
    image: NDArray[np.generic], reading: SideReading, valid: Mask | None, border: Mask | None
) -> Side:
    """Return an image of a scene in [0, 1]; its mask is None where it has data everywhere."""
    image = without_channel(image)
    valid = both(finite_pixels(image, valid), None if border is None else ~border)
    if valid is not None and valid.all():
        valid = None
    return Side(to_unit(image, *reading.limits), reading.limits, valid)
