"""What `jobs/evaluate.py` is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.text.options import check_choice, check_range

STRETCHES = ("none", "minmax")
REFERENCES = ("average", "max", "laplacian")
"""Names that tables keep for the built-in reference methods."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What `jobs/evaluate.py` is told."""

    index_url: str
    """Pair index (Parquet or CSV)."""
    output_url: str
    """Folder or s3:// prefix of the tables."""
    fused: tuple[tuple[str, str], ...] = ()
    """Name and URL of each method: an output of fuse_archive, its fused.zarr, or a folder of images."""
    references: bool = True
    """Whether average, max and laplacian are scored beside them."""
    stretch: str = "none"
    """none, or minmax: each fused image is stretched to 0..255 before it is scored."""
    range_policy: str = "auto"
    """How source values map to [0, 1]: see dmnet_core.ranges."""
    max_pixels: int = 16_777_216
    """Largest height x width that is decoded."""
    limit: int | None = None
    """Score only the first this many pairs of the index."""
    max_missing: float = 1.0
    """Largest share of a method's pairs without scores with which the job still exits 0, in [0, 1]."""
    ray_address: str | None = None
    """Ray cluster to join; None joins the submitting cluster or starts a local one."""

    def __post_init__(self) -> None:
        if not self.index_url.endswith((".parquet", ".csv")):
            raise ValueError(f"--index is {self.index_url!r}, expected a name in .parquet or .csv")
        check_choice("--stretch", self.stretch, STRETCHES)
        names = [*(name for name, _ in self.fused), *(REFERENCES if self.references else ())]
        for name, url in self.fused:
            if not re.fullmatch(r"[\w.+()-][\w.+() -]{0,39}", name) or not url:
                raise ValueError(
                    f"--fused is {name + '=' + url!r}, expected NAME=URL with a name of at most 40 "
                    "letters, digits, spaces and _.+-()"
                )
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"--fused names {', '.join(sorted(twice))} twice (or as a reference method), expected "
                "each name once: rename it, or give --no-references"
            )
        if not names:
            raise ValueError("nothing to score: give --fused NAME=URL, or leave out --no-references")
        check_range("--max-pixels", self.max_pixels, 64, 2**31)
        check_range("--max-missing", self.max_missing, 0, 1)
        if self.limit is not None:
            check_range("--limit", self.limit, 1, 2**62)
