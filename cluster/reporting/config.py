"""Configuration of `jobs/report.py`: each field is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.text.options import check_options, option

MAX_THUMBNAILS = 500


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Configuration of `jobs/report.py`: the parser is made from these fields."""

    # fmt: off
    output_url: str = option(
        "Output of fuse_archive: the folder or s3:// prefix that holds metrics.parquet. The report is "
        "written below it, as report/index.html and report/pictures.",
        "output", metavar="URL",
    )
    where: str | None = option(
        "SQL condition on the columns of metrics.parquet, for example \"pair_id = 'day/7'\". Pairs that "
        "meet it come first when pairs are chosen for the page and its images.",
        "pairs", default=None, metavar="CONDITION", unset="the worst and the best pairs come first",
    )
    num_thumbnails: int = option(
        "Largest number of pairs that are shown as small images, infrared, visible and fused. The worst "
        "and best pairs by each metric come first.",
        "pairs", default=MAX_THUMBNAILS, metavar="N", bounds=(0, MAX_THUMBNAILS),
    )
    num_images: int = option(
        "Largest number of pairs whose three images the report holds at full resolution, to be zoomed. "
        "They are the first of those with small images.",
        "pairs", default=60, metavar="N", bounds=(0, MAX_THUMBNAILS),
    )
    heat_maps: bool = option(
        "Show for the pairs at full resolution what the network's attention block (CSAB) does to its "
        "feature maps. Runs the network of the latest run, about as long as fusing these pairs took.",
        "pairs", default=False,
    )
    # fmt: on

    def __post_init__(self) -> None:
        check_options(self)
        if self.where is not None and not self.where.strip():
            raise ValueError("--where is empty, expected an SQL condition: leave it out for every pair")
