"""Both images of a pair on one grid: what every room does first with a row of the pair index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.archive.columns import HOMOGRAPHY, bands_of, homography_of
from cluster.archive.grid import Grid, make_grid
from cluster.archive.reasons import BadPair
from cluster.archive.sources.image import SourceImage, check_pixels
from cluster.archive.sources.open import open_source
from cluster.archive.sources.source import Source, Window
from dmnet_core.prepare import DEFAULT, PreparedPair, Reading, prepare_pair


@dataclass(frozen=True)
class PairImages:
    """The pixels of one pair, of one height and width."""

    ir: SourceImage
    """Infrared pixels."""
    vis: SourceImage
    """Visible pixels."""
    num_bytes: int
    """Bytes of both files that were fetched."""
    ir_digest: str
    """Digest of the infrared file's bytes, as `Source.digest` has it."""
    vis_digest: str
    """Digest of the visible file's bytes, as `Source.digest` has it."""
    note: str = ""
    """What a user should know about the pixels of either side; empty where there is nothing."""
    grid: str = "identity"
    """How the two were brought together: identity, georeferenced, homography or scale."""

    def prepared(self, reading: Reading = DEFAULT) -> PreparedPair:
        """Return the pair as the network takes it; errors as in `dmnet_core.prepare.prepare_pair`."""
        return prepare_pair(
            self.ir.pixels, self.vis.pixels, reading, ir_valid=self.ir.valid, vis_valid=self.vis.valid
        )


@dataclass(frozen=True)
class OpenPair:
    """A pair whose windows can be read; for one thread."""

    grid: Grid
    """The pixels of the visible image, on which both sides are read."""

    @property
    def ir_digest(self) -> str:
        """Digest of the infrared file's bytes, as `Source.digest` has it."""
        return self.grid.ir.digest

    @property
    def vis_digest(self) -> str:
        """Digest of the visible file's bytes, as `Source.digest` has it."""
        return self.grid.vis.digest

    @property
    def num_bytes(self) -> int:
        """Bytes of both files fetched so far."""
        return self.grid.num_bytes

    @property
    def note(self) -> str:
        """What a user should know about the pixels of either side; empty where there is nothing."""
        sides = (("ir", self.grid.ir), ("vis", self.grid.vis))
        return "; ".join(f"{side}: {source.note}" for side, source in sides if source.note)

    @property
    def crs(self) -> str:
        """Coordinate reference system of the grid as WKT; empty where it has none."""
        return self.grid.vis.crs

    @property
    def crs_code(self) -> str:
        """Code of the grid's coordinate reference system, as EPSG:32632; empty where it has none."""
        if not self.crs:
            return ""
        from rasterio.crs import CRS  # takes half a second: only for images that lie on the earth

        code = CRS.from_wkt(self.crs).to_epsg()
        return "" if code is None else f"EPSG:{code}"

    @property
    def transform(self) -> tuple[float, float, float, float, float, float] | None:
        """From pixels of the grid to coordinates of its crs, as `Source.transform`; None for none."""
        return self.grid.vis.transform

    def overview(self, max_side: int) -> tuple[SourceImage, SourceImage]:
        """Return both sides reduced by one whole number; see `Grid.overview`."""
        return self.grid.overview(max_side)

    def read(self, window: Window | None = None) -> PairImages:
        """Return the pixels of a window, of the whole grid where none is given.

        Raises:
            BadPair: a side can't be read, whatever the error was.
        """
        grid = self.grid
        window = window or Window(0, 0, grid.height, grid.width)
        ir, vis = grid.read_ir(window), grid.read_vis(window)
        return PairImages(
            ir, vis, self.num_bytes, self.ir_digest, self.vis_digest, self.note, grid.kind
        )


@contextmanager
def open_pair(
    row: Mapping[str, Any], *, max_pixels: int, temperatures: bool = False, resample: bool = False
) -> Iterator[OpenPair]:
    """Open both sides of a pair to read windows of them.

    Args:
        row: a row of the pair index: ir_url and vis_url, and, where it has them, the sizes, the bands and
            the homography.
        max_pixels: most pixels that are decoded at once; see `open_source`.
        temperatures: whether a radiometric infrared file gives its temperatures; see `decode_image`.
        resample: whether an infrared image of another size but the same shape is scaled.

    Raises:
        BadPair: a side can't be opened, whatever the error was, or the two can't be brought together.
    """
    with ExitStack() as stack:
        sources: dict[str, Source] = {}
        for side in ("ir", "vis"):
            try:
                source = open_source(
                    row[f"{side}_url"],
                    max_pixels=max_pixels,
                    bands=bands_of(f"{side}_bands", row.get(f"{side}_bands", "")),
                    temperatures=temperatures and side == "ir",
                    expected_bytes=row.get(f"{side}_size", -1),
                )
                sources[side] = stack.enter_context(source)
            except Exception as error:  # stores and decoders raise errors of their own
                num_bytes = sum(source.num_bytes for source in sources.values())
                raise BadPair(side, error, num_bytes) from error
        ir, vis = sources["ir"], sources["vis"]
        try:
            ir_to_vis = homography_of(row.get(HOMOGRAPHY, ""))
            grid = make_grid(ir, vis, ir_to_vis=ir_to_vis, resample=resample)
        except Exception as error:  # of maps of the earth GDAL raises errors of its own
            raise BadPair("", error, ir.num_bytes + vis.num_bytes) from error
        yield OpenPair(grid)


def read_images(
    row: Mapping[str, Any], *, max_pixels: int, temperatures: bool = False, resample: bool = False
) -> PairImages:
    """Read both images of a pair whole.

    Args:
        row: as of `open_pair`.
        max_pixels: largest height x width of the pair.
        temperatures: as of `open_pair`.
        resample: as of `open_pair`.

    Raises:
        BadPair: a side can't be read, whatever the error was, or the two can't be brought together.
    """
    opened = open_pair(row, max_pixels=max_pixels, temperatures=temperatures, resample=resample)
    with opened as pair:
        try:
            check_pixels(pair.grid.width, pair.grid.height, max_pixels)
        except ValueError as error:
            raise BadPair("vis", error, pair.num_bytes) from error
        return pair.read()
