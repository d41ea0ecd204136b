"""What `jobs/train_dmnet.py` is told."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.text.options import check_choice, check_range


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
        check_choice("--preset", self.preset, ("compact", "paper"))
        check_choice("--schedule", self.schedule, ("constant", "cosine"))
        check_choice("--gradient", self.gradient, ("sobel", "canny", "log", "roberts"))
        for part in self.without:
            check_choice("--without", part, ("dtb", "dib", "dm", "csab", "two-stage"))
        for url in self.index_urls:
            if not url.endswith((".parquet", ".csv")):
                raise ValueError(f"--index is {url!r}, expected a name in .parquet or .csv")
        check_range("--epochs of a stage", min(self.epochs), 0, 1_000_000)
        check_range("--epochs of both stages", sum(self.epochs), 1, 1_000_000)
        check_range("--crop", min(self.crop_sides), 32, 4096)
        check_range("--crop", max(self.crop_sides), 32, 4096)
        if any(side % 32 for side in self.crop_sides):
            raise ValueError(
                f"--crop is {' '.join(map(str, self.crop_sides))}, expected multiples of 32 pixels"
            )
        check_range("--crops-per-pair", self.crops_per_pair, 1, 100_000)
        check_range("--batch-size", self.batch_size, 1, 65536)
        check_range("--workers", self.num_workers, 1, 4096)
        if self.batch_size % self.num_workers:
            raise ValueError(
                f"--batch-size is {self.batch_size}, expected a multiple of --workers "
                f"({self.num_workers}): it counts the crops of all workers"
            )
        check_range("--learning-rate", self.learning_rate, 1e-9, 1)
        check_range("--ema", self.ema, 0, 0.999999)
        check_range("--clip", self.clip, 0, 1e9)
        check_range("--validation-pairs", self.validation_pairs, 0, 64)
        check_range("--warm-up", self.warm_up, 0, 2**40)
        for name in ("mu", "lambda1", "lambda2"):
            check_range(f"--{name}", getattr(self, name), 0, 1e9)
        check_range("--seed", self.seed, 0, 2**31 - 1)
        check_range("--cpus-per-worker", self.cpus_per_worker, 1, 1024)
        if self.max_steps is not None:
            check_range("--max-steps", self.max_steps, 1, 2**40)
        if self.max_minutes is not None:
            check_range("--max-minutes", self.max_minutes, 0.01, 1e6)
