"""How source values map to [0, 1], and back to an output type.

Policies:
    auto         8-bit sources by their type's range, all others by `percentile`
    dtype        the type's whole range; a float source is taken to be in [0, 1]
    minmax       the least and the greatest finite value
    percentile   the 0.1th and 99.9th percentile of the finite values
    LOW:HIGH     two numbers, in the source's own units (kelvin, counts, ...)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.1, 99.9)
NAMED_POLICIES = ("auto", "dtype", "minmax", "percentile")


def check_range_policy(policy: str) -> None:
    """Raise ValueError where a range policy is none of those that the module docstring lists."""
    if policy not in NAMED_POLICIES:
        _parse_limits(policy)


def value_range(image: NDArray[np.generic], policy: str) -> tuple[float, float]:
    """Return the source values that are mapped to 0 and to 1.

    Args:
        image: any shape, unsigned, signed or floating; at least one value must be finite.
        policy: see the module docstring.
    """
    if policy == "dtype" or (policy == "auto" and image.dtype == np.uint8):
        if np.issubdtype(image.dtype, np.integer):
            return 0.0, float(np.iinfo(image.dtype.name).max)
        return 0.0, 1.0
    if policy not in NAMED_POLICIES:
        return _parse_limits(policy)
    values = image.astype(np.float64, copy=False)
    values = values[np.isfinite(values)]
    if policy == "minmax":
        return float(values.min()), float(values.max())
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


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
