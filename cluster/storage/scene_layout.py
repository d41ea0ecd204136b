"""How the pixels of a scene lie in the store: size, windows, place on the earth, and smaller sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MAX_SIDE = 512
"""Longest side of the smallest overview, in pixels."""
Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SceneLayout:
    """The arrays of one scene."""

    height: int
    """Rows, in pixels."""
    width: int
    """Columns, in pixels."""
    bands: int
    """Number of bands: 1 or 3."""
    dtype: str
    """Type of the pixels, as numpy names it."""
    window: int
    """Side of a window, in pixels: one chunk of each array."""
    crs_wkt: str = ""
    """CRS as WKT, best of version 2 (GeoZarr knows no other); empty where there is none."""
    crs_code: str = ""
    """The same CRS as "EPSG:<number>"; empty where it has none."""
    transform: Transform | None = None
    """x = a * column + b * row + c and y = d * column + e * row + f at the corners of pixels, in the
    units of the CRS, as (a, b, c, d, e, f); None where there is none."""

    def __post_init__(self) -> None:
        assert self.bands in (1, 3) and min(self.height, self.width, self.window) > 0, self
        assert self.transform is None or len(self.transform) == 6, self.transform

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `fused`: (y, x), or (band, y, x) where there are several bands."""
        return (self.bands, self.height, self.width)[self.bands == 1 :]

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk of `fused`."""
        return (self.bands, self.window, self.window)[self.bands == 1 :]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions of `fused`."""
        return ("band", "y", "x")[self.bands == 1 :]

    @property
    def pixel_type(self) -> np.dtype[np.generic]:
        """Type of the pixels."""
        return np.dtype(self.dtype)

    @property
    def num_rows(self) -> int:
        """Number of rows of windows."""
        return -(-self.height // self.window)

    @property
    def num_columns(self) -> int:
        """Number of columns of windows."""
        return -(-self.width // self.window)

    @property
    def num_windows(self) -> int:
        """Number of windows, each of which is one chunk of `fused`."""
        return self.num_rows * self.num_columns

    @property
    def is_georeferenced(self) -> bool:
        """Whether the scene's place on the earth is known."""
        return bool(self.crs_wkt) and self.transform is not None

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Smallest x and y and largest x and y of the four corners, in the units of the CRS."""
        if self.transform is None:
            return None
        a, b, c, d, e, f = self.transform
        corners = [(column, row) for column in (0, self.width) for row in (0, self.height)]
        xs = [a * column + b * row + c for column, row in corners]
        ys = [d * column + e * row + f for column, row in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def window_size(self, row: int, column: int) -> tuple[int, int]:
        """Return height and width of a window, in pixels: smaller at the right and lower borders."""
        assert 0 <= row < self.num_rows and 0 <= column < self.num_columns, (row, column)
        return (
            min(self.window, self.height - row * self.window),
            min(self.window, self.width - column * self.window),
        )

    def overviews(self) -> dict[int, SceneLayout]:
        """Return the smaller sizes by reduction: 2, 4 and so on, down to a longer side of MAX_SIDE."""
        found: dict[int, SceneLayout] = {}
        level, reduction = self, 1
        while max(level.height, level.width) > MAX_SIDE:
            level, reduction = level._halved(), 2 * reduction
            found[reduction] = level
        return found

    def _halved(self) -> SceneLayout:
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (2 * a, 2 * b, c, 2 * d, 2 * e, f)
        return replace(
            self, height=-(-self.height // 2), width=-(-self.width // 2), transform=transform
        )
