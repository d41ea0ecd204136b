"""What `jobs/index_archive.py` is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What `jobs/index_archive.py` is told."""

    ir_url: str
    """Prefix of the infrared images: a folder or s3://bucket/prefix."""
    vis_url: str
    """Prefix of the visible images."""
    output_url: str
    """The Parquet file to write; the table of unmatched names goes beside it."""
    ir_pattern: str = "{id}"
    """How an infrared file's relative path without extension spells the pair_id, e.g. "{id}_ir"."""
    vis_pattern: str = "{id}"
    """The same for the visible file, e.g. "{id}_rgb"."""

    def __post_init__(self) -> None:
        for flag, pattern in (("--ir-pattern", self.ir_pattern), ("--vis-pattern", self.vis_pattern)):
            if pattern.count("{id}") != 1:
                raise ValueError(
                    f"{flag} is {pattern!r}, expected the text '{{id}}' exactly once, standing for "
                    "the pair_id (for example '{id}_ir')"
                )
        if not self.output_url.endswith((".parquet", ".csv")):
            raise ValueError(
                f"--output is {self.output_url!r}, expected a name ending in .parquet (or .csv)"
            )
