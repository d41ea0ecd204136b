"""Configuration of `jobs/export.py`: each field is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.text.options import check_options, option

DEFAULT_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Configuration of `jobs/export.py`: the parser is made from these fields."""

    # fmt: off
    fused_url: str = option(
        "Output of fuse_archive whose fused images are exported: the folder or s3:// prefix that holds "
        "fused.zarr and metrics.parquet.",
        "input", metavar="URL",
    )
    pairs_url: str | None = option(
        "Text file in UTF-8 with the pair_ids to export, one a line.",
        "input", default=None, metavar="FILE", unset="every fused pair",
    )
    where: str | None = option(
        "SQL condition on the columns of metrics.parquet that a pair must meet to be exported, for "
        "example 'VIF < 0.5'. With --pairs too, a pair must be in the list and meet the condition.",
        "input", default=None, metavar="CONDITION", unset="every fused pair",
    )
    max_pixels: int = option(
        "Largest image, in pixels (height x width), that is written as png, jpeg or tiff: it is held in "
        "memory whole. A pair with a larger image fails. With --format cog, which reads chunk by chunk, "
        "this is the largest chunk.",
        "input", default=16_777_216, metavar="N", bounds=(64, 2**31),
    )

    output_url: str = option(
        "Folder or s3:// prefix that receives the images. Each is named by its pair_id with the "
        "extension .png, .jpg or .tif; letters that a store cannot hold are escaped as in fused.zarr.",
        "output", metavar="URL",
    )
    image_format: str = option(
        "Format of the images: png holds 8 and 16 bits a channel, tiff these and 32-bit floats, jpeg 8 "
        "bits, with losses. cog is a Cloud Optimized GeoTIFF with overviews, its place on the earth, and "
        "a mask of the pixels without data; it holds what tiff holds, of an image of any size.",
        "output", flag="--format", default="png", choices=("png", "jpeg", "tiff", "cog"),
    )
    quality: int | None = option(
        "Quality of JPEG files, from 1 to 100: higher is larger and nearer to the fused image.",
        "output", default=None, metavar="N", bounds=(1, 100),
        unset=f"{DEFAULT_QUALITY} with --format jpeg",
    )
    overwrite: bool = option(
        "Write every chosen image again, also those that were exported before and are up to date.",
        "output", default=False,
    )
    # fmt: on

    def __post_init__(self) -> None:
        check_options(self)
        if self.quality is not None and self.image_format != "jpeg":
            raise ValueError(
                f"--quality is {self.quality} and --format is {self.image_format}, expected --format "
                "jpeg with it: leave out --quality"
            )
        if self.where is not None and not self.where.strip():
            raise ValueError("--where is empty, expected an SQL condition: leave it out for every pair")
