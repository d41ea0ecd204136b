"""What `jobs/fuse_archive.py` is told."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.text.options import check_choice, check_range

DEVICES = ("auto", "cpu")
LOG_FORMATS = ("text", "json")
PRECISIONS = ("fp32", "bf16", "fp16")
OUTPUT_DTYPES = ("uint8", "uint16", "float32")


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
        check_choice("--precision", self.precision, PRECISIONS)
        check_choice("--dtype", self.output_dtype, OUTPUT_DTYPES)
        check_range("--actors", self.num_actors, 1, 100_000)
        check_range("--gpus-per-actor", self.gpus_per_actor, 0, 64)
        check_range("--cpus-per-actor", self.cpus_per_actor, 1, 1024)
        check_range("--batch-size", self.batch_size, 1, 4096)
        check_range("--max-rejected", self.max_rejected, 0, 1)
        check_range("--max-pixels", self.max_pixels, 64, 2**31)
        if self.limit is not None:
            check_range("--limit", self.limit, 1, 2**62)
        check_choice("--device", self.device, DEVICES)
        check_choice("--log-format", self.log_format, LOG_FORMATS)
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
