"""How source values map to [0, 1], and back to an output type; and which pixels have no data.

Policies:
    auto         8-bit sources by their type's range, all others by `percentile`
    dtype        the type's whole range; a float source is taken to be in [0, 1]
    minmax       the least and the greatest finite value
    percentile   the 0.1th and 99.9th percentile of the finite values
    LOW:HIGH     two numbers, in the source's own units (kelvin, counts, ...)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.1, 99.9)
NAMED_POLICIES = ("auto", "dtype", "minmax", "percentile")
BORDER_SHARE = 0.001
"""Least share of the pixels that a border without data covers: as many as a percentile leaves out."""
GAP_OF_ZERO, GAP_OF_OTHERS = 0.1, 10.0
"""Least distance of a border's value from the percentiles of the other pixels, as a share of the distance
between these: the share of grey levels that the border would cost. More is asked of other values than
zero, which a flat part of the scene may have."""
JPEG_NOISE, JPEG_BLOCK = 3, 8
"""Grey levels up to which JPEG leaves a border of zeros, and the distance in pixels from data up to which
it leaves more: the side of its blocks."""
MOST_NOISY = 0.5
"""Largest share of the pixels that a border changed by JPEG covers; the black around a scan of a body,
which is noisy too, may cover more."""
MOST_BESIDE = 0.25
"""Largest share of the pixels beside a border changed by JPEG that are nearer to zero than to data:
beside a black sky there are more."""
Mask = NDArray[np.bool_]


class Border(NamedTuple):
    """A border without data."""

    mask: Mask
    """(H, W), True on the border."""
    low: float
    """Least source value of the border."""
    high: float
    """Greatest source value of the border: another one only where JPEG has changed zeros."""


def check_range_policy(policy: str, side: str) -> None:
    """Raise ValueError where the range policy of a side is none that the module docstring lists."""
    if policy not in NAMED_POLICIES:
        try:
            _parse_limits(policy)
        except ValueError as error:
            raise ValueError(f"{side} {error}") from None


def value_range(
    image: NDArray[np.generic], policy: str, valid: Mask | None = None
) -> tuple[float, float]:
    """Return the source values that are mapped to 0 and to 1.

    Args:
        image: (H, W) or (H, W, C), unsigned, signed or floating; at least one valid pixel must be finite.
        policy: see the module docstring. Where the percentiles are equal, the least and the greatest
            value are taken.
        valid: (H, W), False where there are no data; None where there are data everywhere.
    """
    if policy == "dtype" or (policy == "auto" and image.dtype == np.uint8):
        if np.issubdtype(image.dtype, np.integer):
            return 0.0, float(np.iinfo(image.dtype.name).max)
        return 0.0, 1.0
    if policy not in NAMED_POLICIES:
        return _parse_limits(policy)
    values = (image if valid is None else image[valid]).astype(np.float64, copy=False)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, PERCENTILES) if policy != "minmax" else (0.0, 0.0)
    if low == high:
        return float(values.min()), float(values.max())
    return float(low), float(high)


def find_borders(
    image: NDArray[np.generic], valid: Mask | None = None, margin: int = 0
) -> list[Border]:
    """Return the borders without data that registering or cutting an image leaves around it.

    Such a border has one value, the least or the greatest of the image, and is connected to the image's
    edge, be it over other pixels without data, as around an image that was warped. It is told from a
    black or an overexposed sky by what it would cost: it covers BORDER_SHARE of the pixels, and its value
    lies outside the percentiles of all other pixels, by GAP_OF_ZERO of their distance where it is zero,
    by GAP_OF_OTHERS where it is not (-9999, 65535). Of 8-bit images, a border of zeros is also found
    where JPEG has changed these a little: see `_noisy_border`.

    Args:
        image: (H, W) or (H, W, C), any real type.
        valid: (H, W), False where there are no data for another reason; None where there is none.
        margin: distance in pixels to which pixels around a border may be mixed with it; they don't count
            among the other pixels.

    Returns:
        Up to three borders, which may have pixels in common.
    """
    values = image.reshape(*image.shape[:2], -1)
    known = valid
    if values.dtype.kind == "f":
        finite = np.isfinite(values).all(axis=2)
        known = finite if valid is None else finite & valid
    if known is not None and not known.any():
        return []
    found = []
    is_whole = known is None or bool(known.all())
    ends = values if known is None else values[known]
    edges = [values[0], values[-1], values[:, 0], values[:, -1]]
    for value, sign in ((ends.min(), 1), (ends.max(), -1)):
        if is_whole and not any((edge == value).all(axis=1).any() for edge in edges):
            continue
        same = (values == value).all(axis=2)
        near = dilated(same, margin)
        others = values[~near if known is None else known & ~near]
        # first of all others, so that few images need the search for what is connected
        if same.mean() < BORDER_SHARE or not _is_outside(value, sign, others):
            continue
        border = _connected_to_edge(same, known)
        near = dilated(border, margin)
        others = values[~near if known is None else known & ~near]
        if border.mean() >= BORDER_SHARE and _is_outside(value, sign, others):
            found.append(Border(border, float(value), float(value)))
    if values.dtype == np.uint8 and ends.min() <= JPEG_NOISE:
        noisy = _noisy_border(values, known, margin)
        found += [] if noisy is None else [noisy]
    return found


def _noisy_border(values: NDArray[np.generic], known: Mask | None, margin: int) -> Border | None:
    """Return the border of zeros that JPEG has changed in an 8-bit image, None where there is none.

    Inside of such a border JPEG leaves a few levels, JPEG_NOISE at most, and in the blocks that it shares
    with data any number. So it is wider than a block somewhere, and pixels up to a block from it don't
    count among the others. Those that are nearer to zero than to the others are the border's; they are
    few, since data begin at once.

    Args:
        values: (H, W, C) uint8.
        known: (H, W), False where there are no data for another reason; None where there is none.
        margin: as of `find_borders`.
    """
    # of all channels, since JPEG changes the colour of zeros more than their brightness
    brightness = values.mean(axis=2, dtype=np.float32)
    dark = brightness <= JPEG_NOISE
    if dark.mean() < BORDER_SHARE:
        return None
    border = _connected_to_edge(dark, known)
    around = border if known is None else border | ~known
    is_wide = (border & ~dilated(~around, JPEG_BLOCK)).any()
    if not is_wide or not BORDER_SHARE <= border.mean() <= MOST_NOISY:
        return None
    near = dilated(border, JPEG_BLOCK + margin)
    others = brightness[~near if known is None else known & ~near]
    if not _is_outside(0, 1, others):
        return None
    half = np.percentile(others, PERCENTILES[0]) / 2
    if (brightness[near & ~border] < half).mean() > MOST_BESIDE:
        return None
    return Border(_connected_to_edge(near & (brightness < half), known), 0.0, float(np.ceil(half) - 1))


def dilated(mask: Mask, margin: int) -> Mask:
    """Return an (H, W) mask, also True up to so many pixels from where it is, across corners too."""
    for _ in range(margin):
        for axis in (0, 1):
            grown = mask.copy()
            before, after = ([slice(None)] * axis + [part] for part in (slice(1, None), slice(None, -1)))
            grown[tuple(before)] |= mask[tuple(after)]
            grown[tuple(after)] |= mask[tuple(before)]
            mask = grown
    return mask


def mixed_edge(image: NDArray[np.generic], valid: Mask | None, margin: int) -> Border | None:
    """Return the pixels of an overview that mix data with a border of zeros thinner than one of them.

    Such a border leaves no pixel of its own value in an overview. Its pixels lie at the edge, and below
    the percentiles of all that are not there, by GAP_OF_ZERO of the distance between these.

    Args:
        image: (H, W) or (H, W, C) overview.
        valid: (H, W), False where there are no data for another reason; None where there is none.
        margin: distance in pixels to which a border may be mixed with data.

    Returns:
        These pixels, as those around a border of zeros; None where there are fewer than such a border
        would leave.
    """
    values: NDArray[Any] = image.reshape(*image.shape[:2], -1)
    known = np.ones(image.shape[:2], bool) if valid is None else valid
    depth = 2 * margin  # a pixel of the border alone, or nearly, then a mixed one
    outside = np.pad(~known, depth, constant_values=True)
    edge = dilated(outside, depth)[depth:-depth, depth:-depth] & known
    others = values[known & ~edge]
    if not others.size:
        return None
    low, high = np.percentile(others, PERCENTILES)
    mixed: Mask = edge & (values <= low - GAP_OF_ZERO * (high - low)).all(axis=2)
    if high <= low or mixed.mean() < BORDER_SHARE / 2:
        return None
    return Border(mixed, 0.0, 0.0)


def around_border(
    image: NDArray[np.generic], border: Mask, valid: Mask | None, margin: int
) -> Mask:
    """Return a border with the pixels of an overview that may be mixed with it, (H, W).

    These are the pixels up to `margin` from it, and what a border leaves that is thinner than a pixel of
    the overview: pixels outside the percentiles of all others, connected to the image's edge.

    Args:
        image: (H, W) or (H, W, C) overview.
        border: (H, W), where `find_borders` found one for this margin.
        valid: (H, W), False where there are no data for another reason; None where there is none.
        margin: distance in pixels; 0 for an image that is no overview, whose border this returns.
    """
    if margin == 0:
        return border
    values: NDArray[Any] = image.reshape(*image.shape[:2], -1)
    others = ~dilated(border, margin) if valid is None else valid & ~dilated(border, margin)
    low, high = np.percentile(values[others], PERCENTILES)
    outside = ((values < low) | (values > high)).all(axis=2)
    return dilated(border | _connected_to_edge(border | outside, valid), margin)


def _is_outside(value: Any, sign: int, others: NDArray[Any]) -> bool:
    """Return whether a value is below (sign 1) or above (sign -1) other pixels' percentiles by a gap."""
    if not others.size:
        return False
    low, high = np.percentile(others, PERCENTILES)
    gap = low - float(value) if sign > 0 else float(value) - high
    least = GAP_OF_ZERO if value == 0 else GAP_OF_OTHERS
    return bool(high > low and gap >= least * (high - low))


def _connected_to_edge(area: Mask, known: Mask | None) -> Mask:
    """Return the part of an area, (H, W), from which the image's edge is reached without leaving it.

    The way may lead over pixels without data, where `known` is False, of which none are part of the area.
    """
    if known is not None:
        return _connected_to_edge(area | ~known, None) & area & known
    reached = np.zeros_like(area)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        reached[edge] = area[edge]
    before = -1
    while (count := int(reached.sum())) != before:
        before = count
        reached = _along_rows(area, _along_rows(area.T, reached.T).T)
    return reached


def _along_rows(area: Mask, reached: Mask) -> Mask:
    """Return the runs of an area along its rows that have a reached pixel, (H, W)."""
    # pixels of one run have seen the same number of pixels that are outside
    runs = np.cumsum(np.pad(~area, ((0, 0), (1, 0)), constant_values=True).ravel()).reshape(len(area), -1)
    hit = np.zeros(int(runs[-1, -1]) + 1, bool)
    hit[runs[:, 1:][reached]] = True
    along: Mask = area & hit[runs[:, 1:]]
    return along


def to_unit(image: NDArray[np.generic], low: float, high: float) -> NDArray[np.float32]:
    """Return (image - low) / (high - low) clipped to [0, 1], float32, computed in float64.

    Values outside the range saturate. A constant image (high = low) becomes 0 throughout, and a value
    that is not finite becomes 0.
    """
    values = image.astype(np.float64)
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0), 0, 1).astype(np.float32)


def from_unit(image: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Return [0, 1] as uint8 (0..255), uint16 (0..65535) or float32 ([0, 1])."""
    if dtype == "float32":
        return image
    top = np.iinfo(dtype).max
    return np.rint(image.astype(np.float64) * top).astype(dtype)


def _parse_limits(policy: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in policy.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"range policy is {policy!r}, expected one of {', '.join(NAMED_POLICIES)}, or LOW:HIGH "
            "with LOW below HIGH in the source's units"
        )
    return low, high
