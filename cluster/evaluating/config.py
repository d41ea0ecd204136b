"""Configuration of `jobs/evaluate.py`: each field is an option of the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.archive.config import RANGE_POLICIES, RESAMPLE_HELP
from cluster.archive.naming import NamePattern
from cluster.text.options import check_index_name, check_options, option

if TYPE_CHECKING:
    from dmnet_core.prepare import Reading

REFERENCES = ("average", "max", "laplacian")
"""Names that tables keep for the built-in reference methods."""


def _name_and_value(text: str) -> tuple[str, str]:
    """Return the two sides of NAME=URL or NAME=TEXT; whether they can be used the config checks."""
    name, _, value = text.partition("=")
    return name, value


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Configuration of `jobs/evaluate.py`: the parser is made from these fields."""

    # fmt: off
    index_url: str = option(
        "Pair index of the archive, a Parquet or CSV file with the columns pair_id, ir_url and vis_url.",
        "input", metavar="URL",
    )
    fused_urls: tuple[tuple[str, str], ...] = option(
        "Methods to score, each by a name and the URL of its fused images: an output of fuse_archive, "
        "its fused.zarr, or a folder whose images are named as the pairs.",
        "input", flag="--fused", default=(), metavar="NAME=URL", parse=_name_and_value,
        unset="the reference methods alone",
    )
    fused_patterns: tuple[tuple[str, str], ...] = option(
        "How the files of a method are named, where it is a folder: ours={id}_fused where "
        "bridge_fused.png is its image of the pair bridge. Several names in braces make a pair_id of "
        "several parts, {set}/fused/{frame}, and an extension at the end, {id}.png, takes files of that "
        "extension alone.",
        "input", flag="--fused-pattern", default=(), metavar="NAME=TEXT", parse=_name_and_value,
        unset="{id} for every method, the path below its folder without extension",
    )
    limit: int | None = option(
        "Score only the first N pairs of the index.",
        "input", default=None, metavar="N", bounds=(1, 2**62), unset="all pairs",
    )
    ir_range: str = option(
        "Infrared source values that become 0 and 1, found for each image by itself; of a scene, auto "
        f"takes those of the first output of fuse_archive that has it: {RANGE_POLICIES}",
        "input", default="auto", metavar="POLICY",
    )
    vis_range: str = option(
        "Visible source values that become 0 and 1, found for each image by itself; of a scene, auto "
        f"takes those of the first output of fuse_archive that has it: {RANGE_POLICIES}",
        "input", default="auto", metavar="POLICY",
    )
    resample: bool = option(RESAMPLE_HELP, "input", default=False)
    max_pixels: int = option(
        "Largest image that is decoded, in pixels (height x width). A pair with a larger image has no "
        "scores and is counted as a problem.",
        "input", default=16_777_216, metavar="N", bounds=(64, 2**31),
    )

    output_url: str = option(
        "Folder or s3:// prefix that receives the tables of scores, of problems and of means.",
        "output", metavar="URL",
    )
    report: bool = option(
        "Leave out the page for the browser, which shows the methods side by side.",
        "output", flag="--no-report", default=True,
    )
    num_images: int = option(
        "Largest number of pairs whose images the page holds: those where the methods differ most.",
        "output", default=24, metavar="N", bounds=(0, 500),
    )

    references: bool = option(
        "Leave out the reference methods: average, max and laplacian.",
        "scoring", flag="--no-references", default=True,
    )
    stretch: str = option(
        "What is done to each fused image before it is scored: none leaves it as it is, minmax "
        "stretches its grey levels to 0 to 255, as some published tables do.",
        "scoring", default="none", choices=("none", "minmax"),
    )
    max_missing: float = option(
        "Largest share of the pairs, from 0 to 1, that may lack scores of a method while the job still "
        "ends with exit code 0.",
        "scoring", default=1.0, metavar="SHARE", bounds=(0, 1),
    )
    # fmt: on

    @property
    def reading(self) -> Reading:
        """How the images of a pair are read."""
        from dmnet_core.prepare import Reading  # takes NumPy: not before the options are parsed

        return Reading(self.ir_range, self.vis_range)

    def __post_init__(self) -> None:
        check_options(self)
        check_index_name(self.index_url)
        names = [*(name for name, _ in self.fused_urls), *(REFERENCES if self.references else ())]
        for name, url in self.fused_urls:
            if not re.fullmatch(r"[\w.+()-][\w.+() -]{0,39}", name) or not url.strip():
                raise ValueError(
                    f"--fused is {name + '=' + url!r}, expected NAME=URL with a name of at most 40 "
                    "letters, digits, spaces and _.+-() and a URL that is not empty"
                )
        methods = {name for name, _ in self.fused_urls}
        for number, (name, pattern) in enumerate(self.fused_patterns):
            if name not in methods or name in dict(self.fused_patterns[:number]):
                raise ValueError(
                    f"--fused-pattern is {name + '=' + pattern!r}, expected NAME=TEXT with a name that "
                    "--fused gives, each name once"
                )
            NamePattern(pattern, flag=f"--fused-pattern of {name}")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"--fused names {', '.join(sorted(twice))} twice (or as a reference method), expected "
                "each name once: rename it, or give --no-references"
            )
        if not names:
            raise ValueError("nothing to score: give --fused NAME=URL, or leave out --no-references")
