"""What each job is told: one frozen dataclass a job, checked when it is made.

A job file parses its arguments into one of these and hands it whole to one function of `cluster`.
Nothing else in the system reads command-line arguments or the environment for settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEVICES = ("auto", "cpu")
LOG_FORMATS = ("text", "json")
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
    """CPU threads of each actor that runs on the CPU."""
    device: str = "auto"
    """auto: CUDA where GPUs are reserved; cpu: the CPU all the same, to try a cluster's set-up."""
    batch_size: int = 4
    """Windows of one size that go through the network at once on a GPU; a CPU takes them singly."""
    precision: str = "fp32"
    """fp32, bf16 or fp16; the halves need a GPU."""
    limit: int | None = None
    """Fuse only the first this many pairs of the index."""
    partition: tuple[int, int] | None = None
    """(k, n): only the k-th of n parts of the index, for runs side by side into one output."""
    range_policy: str = "auto"
    """How source values map to [0, 1]: see dmnet_core.ranges."""
    output_dtype: str = "uint8"
    """uint8, uint16 or float32 of the fused array."""
    max_pixels: int = 16_777_216
    """Largest height x width that is decoded; larger pairs are rejected from their header."""
    reprocess: bool = False
    """Fuse again where the ledger holds another fingerprint, and try rejected pairs again."""
    prune: bool = False
    """Remove the results of pairs that are no longer in the index."""
    verify: bool = False
    """Look through the store, and fuse again what the ledger holds and the store lacks."""
    wait: bool = False
    """Wait for another run that writes the output; else that is an error."""
    max_rejected: float = 1.0
    """Largest share of rejected pairs with which the job still exits 0, in [0, 1]."""
    dry_run: bool = False
    """Print the plan and write nothing."""
    log_format: str = "text"
    """text for people, or json: one object a line, with the run's id."""
    ray_address: str | None = None
    """Ray cluster to join; None joins the submitting cluster or starts a local one."""

    @property
    def on_cuda(self) -> bool:
        """Whether the actors run on GPUs."""
        return self.device == "auto" and self.gpus_per_actor > 0

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
        _check_choice("--device", self.device, DEVICES)
        _check_choice("--log-format", self.log_format, LOG_FORMATS)
        if self.partition is not None:
            part, parts = self.partition
            if not 1 <= part <= parts <= 10_000:
                raise ValueError(
                    f"--partition is {part}/{parts}, expected K/N with K from 1 to N, at most 10000"
                )
        if self.precision != "fp32" and not self.on_cuda:
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
    """What `jobs/train_dmnet.py` is told; the defaults are the paper's, where it says."""

    index_urls: tuple[str, ...]
    """Pair indexes (Parquet or CSV), taken together."""
    output_url: str
    """Folder or s3:// prefix of the training; a run goes on from what it finds there."""
    preset: str = "compact"
    """compact or paper."""
    without: tuple[str, ...] = ()
    """Ablations: of dtb, dib, dm, csab and two-stage."""
    checkpoint_url: str | None = None
    """Weights to begin with; None begins with random ones."""
    epochs: tuple[int, int] = (15, 30)
    """Of stage I and stage II; 0 leaves a stage out."""
    crops_per_pair: int = 1
    """Crops of each pair an epoch."""
    crop_sides: tuple[int, ...] = (128,)
    """Pixels; one of them is drawn each step, since the network takes statistics over its input."""
    batch_size: int = 8
    """Crops a step at the first crop side, over all workers; other sides get as many pixels."""
    vary_tones: bool = False
    """Whether half of the crops get another tone curve: see dmnet_core.augment."""
    learning_rate: float = 1e-4
    """Adam's, at its peak."""
    schedule: str = "constant"
    """constant, or cosine: down to a fiftieth over the training."""
    warm_up: int = 0
    """Steps in which the learning rate rises to its peak."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    ema: float = 0.0
    """Decay of the weights' running average, which is what is saved; 0 saves the weights."""
    mu: float = 5.0
    """Weight of 1 - SSIM in stage I, eq. (14)."""
    lambda1: float = 1.0
    """Weight of the infrared reconstruction in stage I, eq. (13)."""
    lambda2: float = 10.0
    """Weight of L_gd in stage II, eq. (18)."""
    gradient: str = "sobel"
    """Operator of L_gd: sobel, canny, log or roberts."""
    bf16: bool = False
    """Whether the network runs in bfloat16; weights and losses stay float32."""
    max_steps: int | None = None
    """Stop after this many steps; the stages share them as they share the epochs."""
    max_minutes: float | None = None
    """Stop after this much time, all runs together; the stages share it as they share the epochs."""
    validation_pairs: int = 4
    """Pairs held out, fused and scored after each epoch."""
    seed: int = 0
    """Seed of held-out pairs, crops, noise and first weights."""
    num_workers: int = 1
    """Processes that train, each on its share of a step's crops."""
    cpus_per_worker: int = 2
    """CPU threads of each."""
    use_gpu: bool = False
    """Whether each has a GPU."""
    ray_address: str | None = None
    """Ray cluster to join; None joins the submitting cluster or starts a local one."""

    def __post_init__(self) -> None:
        _check_choice("--preset", self.preset, ("compact", "paper"))
        _check_choice("--schedule", self.schedule, ("constant", "cosine"))
        _check_choice("--gradient", self.gradient, ("sobel", "canny", "log", "roberts"))
        for part in self.without:
            _check_choice("--without", part, ("dtb", "dib", "dm", "csab", "two-stage"))
        for url in self.index_urls:
            if not url.endswith((".parquet", ".csv")):
                raise ValueError(f"--index is {url!r}, expected a name in .parquet or .csv")
        _check_range("--epochs of a stage", min(self.epochs), 0, 1_000_000)
        _check_range("--epochs of both stages", sum(self.epochs), 1, 1_000_000)
        _check_range("--crop", min(self.crop_sides), 32, 4096)
        _check_range("--crop", max(self.crop_sides), 32, 4096)
        if any(side % 32 for side in self.crop_sides):
            raise ValueError(
                f"--crop is {' '.join(map(str, self.crop_sides))}, expected multiples of 32 pixels"
            )
        _check_range("--crops-per-pair", self.crops_per_pair, 1, 100_000)
        _check_range("--batch-size", self.batch_size, 1, 65536)
        _check_range("--workers", self.num_workers, 1, 4096)
        if self.batch_size % self.num_workers:
            raise ValueError(
                f"--batch-size is {self.batch_size}, expected a multiple of --workers "
                f"({self.num_workers}): it counts the crops of all workers"
            )
        _check_range("--learning-rate", self.learning_rate, 1e-9, 1)
        _check_range("--ema", self.ema, 0, 0.999999)
        _check_range("--clip", self.clip, 0, 1e9)
        _check_range("--validation-pairs", self.validation_pairs, 0, 64)
        _check_range("--warm-up", self.warm_up, 0, 2**40)
        for name in ("mu", "lambda1", "lambda2"):
            _check_range(f"--{name}", getattr(self, name), 0, 1e9)
        _check_range("--seed", self.seed, 0, 2**31 - 1)
        _check_range("--cpus-per-worker", self.cpus_per_worker, 1, 1024)
        if self.max_steps is not None:
            _check_range("--max-steps", self.max_steps, 1, 2**40)
        if self.max_minutes is not None:
            _check_range("--max-minutes", self.max_minutes, 0.01, 1e6)


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
