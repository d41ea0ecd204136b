"""What each job is told: one frozen dataclass a job, checked when it is made.

A job file parses its arguments into one of these and hands it whole to one function of `cluster`.
Nothing else in the system reads command-line arguments or the environment for settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRECISIONS = ("fp32", "bf16", "fp16")
OUTPUT_DTYPES = ("uint8", "uint16", "float32")
STRETCHES = ("none", "minmax")
REFERENCES = ("average", "max", "laplacian")
"""Names that tables keep for the built-in reference methods."""


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


@dataclass(frozen=True, kw_only=True)
class FuseConfig:
    """What `jobs/fuse_archive.py` is told."""

    output_url: str
    """Folder or s3:// prefix of the output store."""
    index_url: str | None = None
    """Pair index (Parquet or CSV); either this or both prefixes."""
    ir_url: str | None = None
    """Prefix of the infrared images, where there is no index."""
    vis_url: str | None = None
    """Prefix of the visible images, where there is no index."""
    checkpoint_url: str | None = None
    """A .safetensors file of weights; None is the shipped one."""
    num_actors: int = 1
    """Actors that hold the network."""
    gpus_per_actor: float = 0.0
    """GPUs that each actor reserves; 0 runs on the CPU."""
    cpus_per_actor: int = 2
    """CPU threads of each actor that has no GPU."""
    batch_size: int = 4
    """Windows of one size that go through the network at once on a GPU; a CPU takes them singly."""
    precision: str = "fp32"
    """fp32, bf16 or fp16; the halves need a GPU."""
    limit: int | None = None
    """Fuse only the first this many pairs of the index."""
    range_policy: str = "auto"
    """How source values map to [0, 1]: see dmnet_core.ranges."""
    output_dtype: str = "uint8"
    """uint8, uint16 or float32 of the fused array."""
    max_pixels: int = 16_777_216
    """Largest height x width that is decoded; larger pairs are rejected from their header."""
    reprocess: bool = False
    """Fuse again where the ledger holds another fingerprint."""
    max_rejected: float = 1.0
    """Largest share of rejected pairs with which the job still exits 0, in [0, 1]."""
    dry_run: bool = False
    """Print the plan and write nothing."""
    ray_address: str | None = None
    """Ray cluster to join; None joins the submitting cluster or starts a local one."""

    def __post_init__(self) -> None:
        if (self.index_url is None) == (self.ir_url is None and self.vis_url is None):
            raise ValueError("give either --index FILE, or both --ir URL and --vis URL")
        if self.index_url is None and (self.ir_url is None or self.vis_url is None):
            raise ValueError("only one of --ir and --vis was given, expected both")
        if self.index_url is not None and not self.index_url.endswith((".parquet", ".csv")):
            raise ValueError(f"--index is {self.index_url!r}, expected a name in .parquet or .csv")
        _check_choice("--precision", self.precision, PRECISIONS)
        _check_choice("--dtype", self.output_dtype, OUTPUT_DTYPES)
        _check_range("--actors", self.num_actors, 1, 100_000)
        _check_range("--gpus-per-actor", self.gpus_per_actor, 0, 64)
        _check_range("--cpus-per-actor", self.cpus_per_actor, 1, 1024)
        _check_range("--batch-size", self.batch_size, 1, 4096)
        _check_range("--max-rejected", self.max_rejected, 0, 1)
        _check_range("--max-pixels", self.max_pixels, 64, 2**31)
        if self.limit is not None:
            _check_range("--limit", self.limit, 1, 2**62)
        if self.precision != "fp32" and self.gpus_per_actor == 0:
            raise ValueError(
                f"--precision is {self.precision}, expected fp32 on a CPU: give --gpus-per-actor 1 "
                "to run on GPUs, or leave --precision out"
            )


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{flag} is {value!r}, expected one of {', '.join(choices)}")


def _check_range(flag: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{flag} is {value}, expected a number from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `jobs/train_dmnet.py` is told."""

    data_urls: tuple[str, ...]
    """Folders or prefixes that each hold ir/ and vis/."""
    output_url: str
    """Folder of checkpoints; a run goes on from the one it finds there."""
    preset: str = "compact"
    """compact or paper."""
    max_minutes: float = 50.0
    """Wall time of both stages together."""
    stage1_share: float = 0.2
    """Share of max_minutes that stage I takes."""
    learning_rate: float = 1e-3
    """Adam's peak learning rate."""
    mu: float = 5.0
    """Weight of 1 - SSIM in stage I, eq. (14)."""
    lambda1: float = 1.0
    """Weight of the infrared reconstruction in stage I, eq. (13)."""
    lambda2: float = 4.0
    """Weight of L_gd in stage II, eq. (18)."""
    crop_batches: tuple[tuple[int, int], ...] = ((64, 4), (96, 2), (128, 2), (192, 1), (256, 1))
    """Crop side in pixels and crops a step; one of them is drawn each step."""
    vary_tones: bool = True
    """Whether half of the crops get another tone curve: see dmnet_core.augment."""
    seed: int = 0
    """Seed of crops, noise and initial weights."""
    max_steps: int | None = None
    """Stop after this many steps."""

    def __post_init__(self) -> None:
        _check_choice("--preset", self.preset, ("compact", "paper"))
        if not self.data_urls:
            raise ValueError("--data is empty, expected at least one folder with ir/ and vis/")
        _check_range("--max-minutes", self.max_minutes, 0.01, 1e6)
        _check_range("stage1_share", self.stage1_share, 0, 0.9)


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
        _check_choice("--stretch", self.stretch, STRETCHES)
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
        _check_range("--max-pixels", self.max_pixels, 64, 2**31)
        _check_range("--max-missing", self.max_missing, 0, 1)
        if self.limit is not None:
            _check_range("--limit", self.limit, 1, 2**62)
