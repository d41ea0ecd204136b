"""Configuration of `jobs/evaluate.py`: each field is an option of the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.text.options import check_index_name, check_options, option

REFERENCES = ("average", "max", "laplacian")
"""Names that tables keep for the built-in reference methods."""


def _name_and_url(text: str) -> tuple[str, str]:
    """Return the two sides of NAME=URL; whether they can be used is checked with the config."""
    name, _, url = text.partition("=")
    return name, url


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
        "input", flag="--fused", default=(), metavar="NAME=URL", parse=_name_and_url,
        unset="the reference methods alone",
    )
    limit: int | None = option(
        "Score only the first N pairs of the index.",
        "input", default=None, metavar="N", bounds=(1, 2**62), unset="all pairs",
    )
    range_policy: str = option(
        "Source values that become 0 and 1, found for each infrared and visible image by itself: auto "
        "takes 0 and 255 for 8-bit images and percentile for all others, dtype the limits of the "
        "integer type, minmax the least and the greatest finite pixel, percentile the 0.1 and 99.9 "
        "percentile, and LOW:HIGH the two numbers given, in the unit of the source.",
        "input", flag="--range", default="auto", metavar="POLICY",
    )
    max_pixels: int = option(
        "Largest image that is decoded, in pixels (height x width). A pair with a larger image has no "
        "scores and is counted as a problem.",
        "input", default=16_777_216, metavar="N", bounds=(64, 2**31),
    )

    output_url: str = option(
        "Folder or s3:// prefix that receives the tables of scores, of problems and of means.",
        "output", metavar="URL",
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
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"--fused names {', '.join(sorted(twice))} twice (or as a reference method), expected "
                "each name once: rename it, or give --no-references"
            )
        if not names:
            raise ValueError("nothing to score: give --fused NAME=URL, or leave out --no-references")
