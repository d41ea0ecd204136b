"""Configurations of `jobs/index_archive.py` and `jobs/make_sample.py`: fields are options."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.text.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Configuration of `jobs/index_archive.py`: the parser is made from these fields."""

    # fmt: off
    ir_url: str = option("Folder or s3:// prefix of the infrared images.", "input", metavar="URL")
    vis_url: str = option("Folder or s3:// prefix of the visible images.", "input", metavar="URL")
    ir_pattern: str = option(
        "How the path of an infrared image below --ir, without its extension, spells the pair_id: "
        "{id}_ir where bridge_ir.png is the infrared image of the pair bridge.",
        "input", default="{id}", metavar="TEXT",
    )
    vis_pattern: str = option(
        "How the path of a visible image below --vis, without its extension, spells the pair_id: "
        "{id}_rgb where bridge_rgb.png is the visible image of the pair bridge.",
        "input", default="{id}", metavar="TEXT",
    )
    output_url: str = option(
        "Pair index to write, a name that ends in .parquet or .csv. The table of names without a "
        "partner goes beside it, as NAME.unmatched.parquet.",
        "output", metavar="FILE",
    )
    # fmt: on

    def __post_init__(self) -> None:
        check_options(self)
        for flag, pattern in (("--ir-pattern", self.ir_pattern), ("--vis-pattern", self.vis_pattern)):
            if pattern.count("{id}") != 1:
                raise ValueError(
                    f"{flag} is {pattern!r}, expected the text '{{id}}' exactly once, standing for "
                    "the pair_id (for example '{id}_ir')"
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
