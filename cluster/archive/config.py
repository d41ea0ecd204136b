"""Configurations of `jobs/index_archive.py` and `jobs/make_sample.py`: fields are options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.archive.columns import bands_text
from cluster.archive.naming import Naming
from cluster.text.options import check_index_name, check_options, option

RANGE_POLICIES = (
    "auto takes 0 and 255 for 8-bit images and percentile for all others, dtype the limits of the "
    "integer type, minmax the least and the greatest pixel with data, percentile the 0.1 and 99.9 "
    "percentile of these, and LOW:HIGH the two numbers given, in the unit of the source."
)
"""Help of the options that take a policy of dmnet_core.ranges."""
RESAMPLE_HELP = (
    "Scale the infrared image of a pair whose images differ in size but not in shape, and show the same "
    "view. Without it such a pair is rejected, unless CRS and transform of both images, or the column "
    "ir_to_vis of the index, say how they lie."
)
"""Help of the options `--resample`."""


def bands_option(side: str, *, of: str = "") -> Any:
    """Return the option that names the bands of one side, infrared or visible.

    Args:
        side: word for the side.
        of: sentence that says which pairs the option is for; empty where it is for all.
    """
    return option(
        f"Bands of the {side} files that are read, numbers from 1: one for grey, or three for red, green "
        f"and blue, for example 4 or 1,2,3.{of}",
        "input", default=None, metavar="N[,N,N]", parse=bands_text,
        unset="the bands that make the picture, grey or RGB",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Configuration of `jobs/index_archive.py`: the parser is made from these fields."""

    # fmt: off
    ir_url: str | None = option(
        "Folder or s3:// prefix of the infrared images.", "input", default=None, metavar="URL"
    )
    vis_url: str | None = option(
        "Folder or s3:// prefix of the visible images.", "input", default=None, metavar="URL"
    )
    stac_url: str | None = option(
        "STAC items to index in place of --ir and --vis, one pair an item: an ItemCollection (a GeoJSON "
        "FeatureCollection) or a stac-geoparquet file. The pair_id is the item's id, below its "
        "collection where there are several.",
        "STAC", default=None, metavar="FILE",
    )
    ir_asset: str | None = option(
        "Key of the asset of a STAC item that is the infrared image: nir.",
        "STAC", default=None, metavar="KEY",
    )
    vis_asset: str | None = option(
        "Key of the asset of a STAC item that is the visible image: visual. It may be the same key as "
        "--ir-asset.",
        "STAC", default=None, metavar="KEY",
    )
    ir_bands: str | None = bands_option("infrared")
    vis_bands: str | None = bands_option("visible")
    cameras_url: str | None = option(
        "Table of the cameras, a Parquet or CSV file with the columns camera and ir_to_vis, the nine "
        "numbers of a homography, row by row, from infrared to visible pixels. The camera of a pair is "
        "the part {camera} of its names, else the first folder of its pair_id. A row whose camera is * "
        "or empty is for all others.",
        "input", default=None, metavar="URL", unset="the sides show the same pixel at the same place",
    )
    ir_pattern: str = option(
        "How the path of an infrared image below --ir, without its extension, spells the pair_id: "
        "{id}_ir where bridge_ir.png is the infrared image of the pair bridge. {id} may span folders. "
        "Several other names in braces make a pair_id of several parts, each without a slash: "
        "{set}/lwir/{frame} where day/lwir/7.png is of the pair day/7. A pattern with the extension of "
        "an image, {id}.tiff, takes files of that extension alone.",
        "names", default="{id}", metavar="TEXT",
    )
    vis_pattern: str = option(
        "How the path of a visible image below --vis, without its extension, spells the pair_id, by the "
        "same names in braces: {id}_rgb where bridge_rgb.png is the visible image of the pair bridge.",
        "names", default="{id}", metavar="TEXT",
    )
    ignore_case: bool = option(
        "Take names that differ only in upper and lower case for one. The pair_id is spelled as in the "
        "infrared name.",
        "names", default=False,
    )
    ignore_leading_zeros: bool = option(
        "Take names that differ only in the zeros before a number for one: frame 7 and frame 0007. The "
        "pair_id is spelled as in the infrared name.",
        "names", default=False,
    )
    output_url: str = option(
        "Pair index to write, a name that ends in .parquet or .csv. The table of names without a "
        "partner goes beside it, as NAME.unmatched.parquet.",
        "output", metavar="FILE",
    )
    dry_run: bool = option(
        "Print ten pairs from all over the archive, and what was left out and why, and write nothing.",
        "output", default=False,
    )
    # fmt: on

    @property
    def naming(self) -> Naming:
        """How the files are named."""
        return Naming(
            ir_pattern=self.ir_pattern,
            vis_pattern=self.vis_pattern,
            ignore_case=self.ignore_case,
            ignore_leading_zeros=self.ignore_leading_zeros,
        )

    def __post_init__(self) -> None:
        check_options(self)
        if self.cameras_url is not None:
            check_index_name(self.cameras_url, "--cameras")
        given = {
            "--ir": self.ir_url, "--vis": self.vis_url, "--stac": self.stac_url,
            "--ir-asset": self.ir_asset, "--vis-asset": self.vis_asset,
        }  # fmt: skip
        names = [name for name, value in given.items() if value is not None]
        if names not in (["--ir", "--vis"], ["--stac", "--ir-asset", "--vis-asset"]):
            raise ValueError(
                f"{' '.join(names) or 'no input'} was given, expected both --ir URL and --vis URL, or "
                "--stac FILE with --ir-asset KEY and --vis-asset KEY"
            )
        naming = self.naming  # refuses patterns that are none
        if self.stac_url is not None and naming != Naming():
            raise ValueError(
                "--stac was given with an option on the names of files, expected none: a pair_id is the "
                "id of its item"
            )
        if not self.output_url.endswith((".parquet", ".csv")):
            raise ValueError(
                f"--output is {self.output_url!r}, expected a name that ends in .parquet or .csv"
            )


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Configuration of `jobs/make_sample.py`: the parser is made from these fields."""

    # fmt: off
    output_url: str = option(
        "Folder or s3:// prefix that receives the images, below ir/ and vis/.", "output", metavar="URL"
    )
    num_pairs: int = option(
        "Number of pairs to generate; the kinds of scene take turns.",
        "content", default=12, metavar="N", bounds=(1, 10_000_000),
    )
    seed: int = option(
        "Seed of the generator: the same seed gives the same images, another one other scenes.",
        "content", default=0, metavar="N", bounds=(0, 2**31 - 1),
    )
    # fmt: on

    def __post_init__(self) -> None:
        check_options(self)
