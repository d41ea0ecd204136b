"""Where a pixel of the visible image lies in the infrared one: by scale, homography or maps of the earth.

Positions are in pixels, (0, 0) being the outer corner of the first pixel and (0.5, 0.5) its centre. A
position depends on the pixel alone and not on the window that it is in, so that windows fit together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.archive.sources.source import Source, Window

Numbers = NDArray[np.floating[Any]]
LATTICE = 16
"""Pixels between the positions that are reprojected exactly, and between which is interpolated. Over 16
pixels of up to 100 m, two maps of the earth bend against each other by less than 1e-3 pixels."""
MAX_CONDITION = 1e8
"""Condition number from which a homography is singular: it maps the image onto a line or a point."""
HALF_PIXEL = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])


class Mapping(ABC):
    """From positions in one image to positions in another."""

    @abstractmethod
    def points(self, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
        """Return where points lie, NaN where nowhere; x and y, and what is returned, have one shape."""

    @abstractmethod
    def inverse(self) -> Mapping:
        """Return the mapping the other way."""

    def centres(self, window: Window) -> tuple[Numbers, Numbers]:
        """Return where the centres of a window's pixels lie, each (height, width)."""
        x = np.arange(window.x, window.x + window.width) + 0.5
        y = np.arange(window.y, window.y + window.height) + 0.5
        grid_x, grid_y = np.meshgrid(x, y)
        return self.points(grid_x, grid_y)


class Projective(Mapping):
    """A projective mapping: (x, y, 1) times a matrix, divided by the third number."""

    def __init__(self, matrix: Numbers) -> None:
        """Take a matrix (3, 3) whose third row gives a positive number for what is in front."""
        self.matrix = matrix

    def points(self, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
        """Return where points lie; see `Mapping.points`."""
        rows = [row[0] * x + row[1] * y + row[2] for row in self.matrix]
        if not self.matrix[2, :2].any():
            return rows[0] / self.matrix[2, 2], rows[1] / self.matrix[2, 2]
        depth = np.where(rows[2] > 0, rows[2], np.nan)  # else behind the camera
        return rows[0] / depth, rows[1] / depth

    def inverse(self) -> Projective:
        """Return the mapping the other way."""
        return Projective(np.linalg.inv(self.matrix))


class Reprojected(Mapping):
    """From one map of the earth to another, of another coordinate reference system."""

    def __init__(self, crs: str, matrix: Numbers, to_crs: str, to_matrix: Numbers) -> None:
        """Take WKT and the matrix (3, 3) from pixels to coordinates of both images."""
        self._from, self._to = (crs, matrix), (to_crs, to_matrix)

    def points(self, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
        """Return where points lie; see `Mapping.points`."""
        from rasterio.crs import CRS
        from rasterio.warp import transform

        (crs, matrix), (to_crs, to_matrix) = self._from, self._to
        east, north = Projective(matrix).points(x, y)
        found: Any = transform(
            CRS.from_wkt(crs), CRS.from_wkt(to_crs), east.ravel().tolist(), north.ravel().tolist()
        )
        there = [np.asarray(numbers, np.float64).reshape(x.shape) for numbers in found[:2]]
        there = [np.where(np.isfinite(numbers), numbers, np.nan) for numbers in there]
        return Projective(np.linalg.inv(to_matrix)).points(*there)

    def inverse(self) -> Reprojected:
        """Return the mapping the other way."""
        return Reprojected(*self._to, *self._from)

    def centres(self, window: Window) -> tuple[Numbers, Numbers]:
        """Return where centres lie, interpolated on a lattice; see `Mapping.centres`."""
        first_x, first_y = window.x // LATTICE, window.y // LATTICE
        columns = np.arange(first_x, (window.x + window.width - 1) // LATTICE + 2)
        rows = np.arange(first_y, (window.y + window.height - 1) // LATTICE + 2)
        at_x, at_y = np.meshgrid(columns * float(LATTICE), rows * float(LATTICE))
        x = (np.arange(window.x, window.x + window.width) + 0.5) / LATTICE
        y = (np.arange(window.y, window.y + window.height) + 0.5) / LATTICE
        j, i = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        right, down = x - j, (y - i)[:, None]
        j, i = j - first_x, i - first_y

        def between(nodes: Numbers) -> Numbers:
            above = nodes[i][:, j] * (1 - right) + nodes[i][:, j + 1] * right
            below = nodes[i + 1][:, j] * (1 - right) + nodes[i + 1][:, j + 1] * right
            return above * (1 - down) + below * down

        node_x, node_y = self.points(at_x, at_y)
        return between(node_x), between(node_y)


def pixel_matrix(source: Source) -> Numbers:
    """Return the matrix (3, 3) from pixels of a source to coordinates of its crs."""
    assert source.transform is not None
    return np.array([*source.transform, 0, 0, 1], np.float64).reshape(3, 3)


def between_maps(vis: Source, ir: Source) -> Mapping:
    """Return the mapping from visible to infrared pixels; both images have crs and transform."""
    from rasterio.crs import CRS

    if vis.crs == ir.crs or CRS.from_wkt(vis.crs) == CRS.from_wkt(ir.crs):
        return Projective(np.linalg.inv(pixel_matrix(ir)) @ pixel_matrix(vis))
    return Reprojected(vis.crs, pixel_matrix(vis), ir.crs, pixel_matrix(ir))


def by_homography(ir_to_vis: Sequence[float], vis: Source, ir: Source) -> Projective | None:
    """Return the mapping from the visible image to the infrared one of a homography the other way.

    Args:
        ir_to_vis: nine numbers, row by row, for (x, y) of pixel centres that are whole numbers from
            (0, 0) on, as OpenCV counts.
        vis: the visible image.
        ir: the infrared image.

    Returns:
        None where the homography is singular.
    """
    if len(ir_to_vis) != 9 or not np.isfinite(ir_to_vis).all():
        return None
    matrix = HALF_PIXEL @ np.array(ir_to_vis, np.float64).reshape(3, 3) @ np.linalg.inv(HALF_PIXEL)
    centre = matrix[2] @ [ir.width / 2, ir.height / 2, 1]
    matrix = matrix if centre >= 0 else -matrix  # the middle of the image is in front
    sizes = [np.diag([source.width, source.height, 1.0]) for source in (vis, ir)]
    unit = np.linalg.inv(sizes[0]) @ matrix @ sizes[1]  # of both images with sides of 1
    if centre == 0 or np.linalg.cond(unit) > MAX_CONDITION:
        return None
    return Projective(matrix).inverse()
