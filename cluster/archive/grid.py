"""The grid of a pair: the pixels of its visible image, on which its infrared image is read.

    identity      one size, and the same place on the earth or none: pixels are read as they are
    georeferenced both have a CRS and a transform: the infrared image is warped onto the visible one's map
    homography    nine numbers say where infrared pixels lie in the visible image
    scale         another size of the same shape, where that is allowed

Only where the infrared image reaches has the pair data. A window is warped from the pixels that it needs,
and equals the same part of the whole image warped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from cluster.archive.mapping import Mapping, Numbers, Projective, between_maps, by_homography
from cluster.archive.reasons import BadImage, BadPair
from cluster.archive.resampling import read_at
from cluster.archive.sources.image import SourceImage
from cluster.archive.sources.source import (
    BLOCK_SIDE,
    Source,
    Window,
    decoded,
    read_in_blocks,
    reduction,
)

ASPECT_TOLERANCE = 0.01
"""Largest relative difference of the shapes, width / height, of two images that show the same."""
SAME_PLACE = 0.01
"""Pixels by which two maps may differ that count as one."""
NUM_PROBES = 65
"""Points along each side of an image by which it is found out where it lies in the other."""


@dataclass(frozen=True)
class Grid:
    """A pair whose two sides are read on the pixels of the visible one; for one thread."""

    ir: Source
    """The infrared image."""
    vis: Source
    """The visible image."""
    kind: str
    """How the two come together: identity, georeferenced, homography or scale."""
    mapping: Mapping | None
    """From visible to infrared pixels; None where they are the same."""
    scale: float = 1.0
    """Infrared pixels along one visible pixel, about."""

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.vis.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.vis.width

    @property
    def num_bytes(self) -> int:
        """Bytes of both sides fetched so far."""
        return self.ir.num_bytes + self.vis.num_bytes

    def parts_version(self) -> str:
        """Return a digest of the versions of the files that both sides name; see `Source.parts_version`.

        Raises:
            BadPair: a store can't be asked, whatever the error was.
        """
        with self._side("ir"):
            ir = self.ir.parts_version()
        with self._side("vis"):
            return f"{ir}-{ir if self.vis.url == self.ir.url else self.vis.parts_version()}"

    def read_vis(self, window: Window) -> SourceImage:
        """Return visible pixels, and the mask of those with data.

        Raises:
            BadPair: they can't be read, whatever the error was.
        """
        with self._side("vis"):
            return self.vis.read(window)

    def read_ir(self, window: Window) -> SourceImage:
        """Return infrared pixels, and the mask of those with data, at the visible pixels of a window.

        Raises:
            BadPair: they can't be read, whatever the error was.
        """
        with self._side("ir"):
            if self.mapping is None:
                return self.ir.read(window)
            return read_in_blocks(self._warped, window, BLOCK_SIDE, 1)

    def overview(self, max_side: int) -> tuple[SourceImage, SourceImage]:
        """Return the whole of both sides, infrared first, reduced by one whole number.

        No side of the visible image is longer than `max_side` then. Pixels are means of those with
        data. An infrared image that lies otherwise is reduced to about that size first, then warped.

        Raises:
            BadPair: a side can't be read, whatever the error was.
        """
        with self._side("ir"):
            if self.mapping is None:
                ir = self.ir.overview(max_side)
            else:
                step = reduction(self.vis.height, self.vis.width, max_side)
                ir = self._warped_overview(self.mapping, step)
        with self._side("vis"):
            return ir, self.vis.overview(max_side)

    def _warped(self, window: Window) -> SourceImage:
        """Return infrared pixels; where these are finer than the visible ones, means of them."""
        assert self.mapping is not None
        return read_at(self.ir, *self.mapping.centres(window), max(1, int(self.scale + 1e-6)))

    def _warped_overview(self, mapping: Mapping, step: int) -> SourceImage:
        """Return the infrared image at the middles of blocks of step x step visible pixels."""
        longest = -(-max(self.ir.height, self.ir.width) // max(1, int(self.scale * step + 1e-6)))
        reduced = reduction(self.ir.height, self.ir.width, longest)
        source = decoded(self.ir.overview(longest), self.ir.url)
        rows, columns = (
            np.minimum(np.arange(0, length, step) + step / 2, (np.arange(0, length, step) + length) / 2)
            for length in (self.height, self.width)
        )
        x, y = mapping.points(*np.meshgrid(columns, rows))
        return read_at(source, x / reduced, y / reduced, 1)

    @contextmanager
    def _side(self, side: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # stores and decoders raise errors of their own
            raise BadPair(side, error, self.num_bytes) from error


def make_grid(
    ir: Source, vis: Source, *, ir_to_vis: Sequence[float] | None = None, resample: bool = False
) -> Grid:
    """Return the grid of a pair.

    Args:
        ir: the infrared image.
        vis: the visible image.
        ir_to_vis: nine numbers of a homography, row by row, from infrared to visible pixels; (x, y) of
            pixel centres are whole numbers from (0, 0) on. It counts before any other way.
        resample: whether an infrared image of another size but the same shape is scaled.

    Raises:
        BadImage: the two have different sizes and no way to bring them together (size_mismatch), or no
            pixel in common (no_overlap).
    """
    same_size = (ir.height, ir.width) == (vis.height, vis.width)
    mapping: Mapping | None
    if ir_to_vis is not None:
        kind, mapping = "homography", by_homography(ir_to_vis, vis, ir)
        if mapping is None:
            raise BadImage(
                "no_overlap",
                f"ir_to_vis is {', '.join(f'{number:g}' for number in ir_to_vis)}, which is singular or "
                "not nine finite numbers, expected a homography from infrared to visible pixels: correct "
                "the pair index",
            )
    elif all(side.crs and side.transform for side in (ir, vis)):
        kind, mapping = "georeferenced", between_maps(vis, ir)
        if same_size and _is_same_place(mapping, vis):
            return Grid(ir, vis, "identity", None)
    elif same_size:
        return Grid(ir, vis, "identity", None)
    elif resample and _same_aspect(ir, vis):
        scale = np.diag([ir.width / vis.width, ir.height / vis.height, 1.0])
        kind, mapping = "scale", Projective(scale)
    else:
        raise _size_mismatch(ir, vis, resample)
    x, y = _common_points(mapping, ir, vis)
    if not x.size:
        raise _no_overlap(kind)
    return Grid(ir, vis, kind, mapping, _scale(mapping, x, y))


def _is_same_place(mapping: Mapping, vis: Source) -> bool:
    x = np.array([0, vis.width, 0, vis.width], np.float64)
    y = np.array([0, 0, vis.height, vis.height], np.float64)
    ir_x, ir_y = mapping.points(x, y)
    return bool((np.hypot(ir_x - x, ir_y - y) < SAME_PLACE).all())


def _same_aspect(ir: Source, vis: Source) -> bool:
    ratio = ir.width * vis.height / (ir.height * vis.width)
    return abs(ratio - 1) <= ASPECT_TOLERANCE


def _common_points(mapping: Mapping, ir: Source, vis: Source) -> tuple[Numbers, Numbers]:
    """Return points of the visible image, x and y in its pixels, that also lie in the infrared one."""
    found = []
    for there, here, other in ((mapping, vis, ir), (mapping.inverse(), ir, vis)):
        probes = (np.arange(NUM_PROBES) + 0.5) / NUM_PROBES
        x, y = (grid.ravel() for grid in np.meshgrid(probes * here.width, probes * here.height))
        other_x, other_y = there.points(x, y)
        inside = (other_x >= 0) & (other_x < other.width) & (other_y >= 0) & (other_y < other.height)
        points = (x, y) if here is vis else (other_x, other_y)
        found.append([numbers[inside] for numbers in points])
    return np.concatenate([found[0][0], found[1][0]]), np.concatenate([found[0][1], found[1][1]])


def _scale(mapping: Mapping, x: Numbers, y: Numbers) -> float:
    """Return how many infrared pixels lie along one visible pixel: the median over points."""
    x0, y0 = mapping.points(x - 0.5, y - 0.5)
    x1, y1 = mapping.points(x + 0.5, y - 0.5)
    x2, y2 = mapping.points(x - 0.5, y + 0.5)
    area = np.abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0))
    return float(np.sqrt(np.nanmedian(area)))


def _sizes(ir: Source, vis: Source) -> str:
    return (
        f"infrared is {ir.height} x {ir.width} px and visible is {vis.height} x {vis.width} px "
        "(height x width)"
    )


def _size_mismatch(ir: Source, vis: Source, resample: bool) -> BadImage:
    places = [bool(side.crs and side.transform) for side in (ir, vis)]
    if any(places):
        lacking = "infrared" if places[1] else "visible"
        advice = f"only one lies on the earth: give the {lacking} image a CRS and a transform"
    elif _same_aspect(ir, vis) and not resample:
        advice = "they have the same shape: if both show the same, have the infrared image scaled by "
        advice += "--resample"
    else:
        advice = "register the pair"
    return BadImage(
        "size_mismatch",
        f"{_sizes(ir, vis)}, expected one size or a way to bring them together; {advice}, or give its "
        "homography in the column ir_to_vis of the pair index",
    )


def _no_overlap(kind: str) -> BadImage:
    cause = {
        "georeferenced": "their CRS and transforms put them in different places: correct these",
        "homography": "ir_to_vis puts the infrared image outside of the visible one: correct it; it maps "
        "infrared to visible pixels, not the other way",
    }
    return BadImage(
        "no_overlap",
        f"the two images have no pixel in common, expected some; {cause.get(kind, 'register the pair')}",
    )
