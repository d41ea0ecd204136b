"""Configuration of `jobs/fuse_archive.py`: each field is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.archive.config import RANGE_POLICIES, RESAMPLE_HELP, bands_option
from cluster.text.options import check_index_name, check_options, option

if TYPE_CHECKING:
    from cluster.fusing.steps.read import Opening
    from dmnet_core.prepare import Reading


def _partition(text: str) -> tuple[int, int]:
    """Return (2, 4) of 2/4; which numbers are allowed is checked with the config."""
    part, _, parts = text.partition("/")
    try:
        return int(part), int(parts)
    except ValueError as error:
        raise ValueError("K/N, two whole numbers, for example 1/4") from error


@dataclass(frozen=True, kw_only=True)
class FuseConfig:
    """Configuration of `jobs/fuse_archive.py`: the parser is made from these fields."""

    # fmt: off
    index_url: str | None = option(
        "Pair index of the archive, a Parquet or CSV file with the columns pair_id, ir_url and vis_url. "
        "Give either --index, or both --ir and --vis.",
        "input", default=None, metavar="URL",
    )
    ir_url: str | None = option(
        "Folder or s3:// prefix of the infrared images. An infrared and a visible image make a pair "
        "where their paths below --ir and --vis are equal, extensions aside.",
        "input", default=None, metavar="URL",
    )
    vis_url: str | None = option(
        "Folder or s3:// prefix of the visible images, whose paths below it are those of the infrared "
        "images below --ir.",
        "input", default=None, metavar="URL",
    )
    limit: int | None = option(
        "Fuse only the first N pairs of the archive, or of the part that --partition names.",
        "input", default=None, metavar="N", bounds=(1, 2**62), unset="all pairs",
    )
    partition: tuple[int, int] | None = option(
        "Fuse only the pairs in the K-th of N parts of the archive, so that N runs can write into one "
        "output side by side. The part of a pair follows from its pair_id.",
        "input", default=None, metavar="K/N", parse=_partition, unset="the whole archive",
    )
    ir_range: str = option(
        f"Infrared source values that become 0 and 1, found for each image by itself: {RANGE_POLICIES}",
        "input", default="auto", metavar="POLICY",
    )
    vis_range: str = option(
        f"Visible source values that become 0 and 1, found for each image by itself: {RANGE_POLICIES}",
        "input", default="auto", metavar="POLICY",
    )
    ir_bands: str | None = bands_option("infrared", of=" For the pairs of which the index names none.")
    vis_bands: str | None = bands_option("visible", of=" For the pairs of which the index names none.")
    resample: bool = option(RESAMPLE_HELP, "input", default=False)
    temperatures: bool = option(
        "Read the temperatures, in kelvin, of infrared images that are radiometric JPEGs of FLIR, not "
        "their palette pictures. Needs the package flyr on every worker.",
        "input", default=False,
    )
    max_pixels: int = option(
        "Largest image that is decoded whole, in pixels (height x width), as PNG and JPEG are. A pair "
        "with a larger one is rejected as its header is read. Larger TIFFs, VRTs and Zarr arrays are "
        "read by windows; of them it bounds one tile.",
        "input", default=67_108_864, metavar="N", bounds=(64, 2**31),
    )

    output_url: str = option(
        "Folder or s3:// prefix that receives the fused arrays, the tables and the run records.",
        "output", metavar="URL",
    )
    output_dtype: str = option(
        "Data type of the fused arrays: uint8 (0 to 255), uint16 (0 to 65535) or float32 (0 to 1).",
        "output", flag="--dtype", default="uint8", choices=("uint8", "uint16", "float32"),
    )
    window: int = option(
        "Side of the windows, in pixels, in which larger images are fused, those of more than 1.25 "
        "windows: 1280 x 1024 pixels by default. An actor's memory follows from it. Larger windows take "
        "more memory, and less time for the margins that they share.",
        "output", default=1024, metavar="N", bounds=(64, 16_384),
    )
    colour: str = option(
        "Image whose colour the fused one gets: auto takes the visible image's, and the infrared one's "
        "where only that has colour; ir and vis take the named one's, and none gives grey images.",
        "output", default="auto", choices=("auto", "ir", "vis", "none"),
    )

    preset: str = option(
        "Which of the weights that come with the package are used: compact, or fast, whose network takes "
        "a fraction of the time.",
        "network", default="compact", choices=("compact", "fast"),
    )
    checkpoint_url: str | None = option(
        "Weights of the network, a .safetensors file written by train_dmnet.",
        "network", default=None, metavar="URL", unset="the weights of --preset",
    )
    precision: str = option(
        "Number format in which the network computes; bf16 and fp16 need a GPU.",
        "network", default="fp32", choices=("fp32", "bf16", "fp16"),
    )

    num_actors: int = option(
        "Number of actors that fuse side by side, each a process with its own copy of the network.",
        "resources", default=1, metavar="N", bounds=(1, 100_000),
    )
    gpus_per_actor: float = option(
        "Number of GPUs that each actor reserves: 0 runs the network on the CPU, and a fraction lets "
        "several actors share one GPU.",
        "resources", default=0.0, metavar="X", bounds=(0, 64),
    )
    cpus_per_actor: int = option(
        "Number of CPU threads of each actor whose network runs on the CPU.",
        "resources", default=2, metavar="N", bounds=(1, 1024),
    )
    device: str = option(
        "Device of the network: auto takes a GPU where --gpus-per-actor reserves one; cpu takes the "
        "CPU all the same, which tries a cluster's set-up on nodes that only claim to have GPUs.",
        "resources", default="auto", choices=("auto", "cpu"),
    )
    batch_size: int = option(
        "Number of pairs of one image size that go through the network at once on a GPU; on a CPU they "
        "go one by one.",
        "resources", default=4, metavar="N", bounds=(1, 4096),
    )

    reprocess: bool = option(
        "Fuse again the pairs whose results were made with other weights or settings, and try rejected "
        "pairs again.",
        "what to do again", default=False,
    )
    verify: bool = option(
        "List the fused arrays first, and fuse again the pairs that the ledger calls done and whose "
        "arrays are missing or incomplete.",
        "what to do again", default=False,
    )
    prune: bool = option(
        "Remove the fused arrays of pairs that are no longer in the archive.",
        "what to do again", default=False,
    )

    wait: bool = option(
        "Wait while another run writes the same output, instead of ending with exit code 3.",
        "running", default=False,
    )
    report: bool = option(
        "Write no report for the browser at the end of the run; jobs/report.py writes it at any time.",
        "running", flag="--no-report", default=True,
    )
    dry_run: bool = option(
        "Print how many pairs would be fused, fused again or removed and how much memory an actor needs, "
        "and write nothing.",
        "running", default=False,
    )
    max_rejected: float = option(
        "Largest share of rejected pairs, from 0 to 1, with which the job still ends with exit code 0.",
        "running", default=1.0, metavar="SHARE", bounds=(0, 1),
    )
    log_format: str = option(
        "Format of the lines on standard output: text for people, or json for a log store, one object "
        "a line with the time, the run_id and the event.",
        "running", default="text", choices=("text", "json"),
    )
    # fmt: on

    @property
    def reading(self) -> Reading:
        """How the images of a pair are read."""
        from dmnet_core.prepare import Reading  # takes NumPy: not before the options are parsed

        return Reading(self.ir_range, self.vis_range, self.colour)

    def opening(self, halo: int = 0) -> Opening:
        """Return how pairs are opened, and cut into windows that are fused with a halo, in pixels."""
        from cluster.fusing.steps.read import Opening  # not before the options are parsed

        return Opening(
            max_pixels=self.max_pixels,
            window=self.window,
            halo=halo,
            temperatures=self.temperatures,
            resample=self.resample,
        )

    @property
    def on_cuda(self) -> bool:
        """Whether the network runs on GPUs."""
        return self.device == "auto" and self.gpus_per_actor > 0

    def __post_init__(self) -> None:
        if (self.index_url is None) == (self.ir_url is None and self.vis_url is None):
            raise ValueError("give either --index FILE, or both --ir URL and --vis URL")
        if self.index_url is None and (self.ir_url is None or self.vis_url is None):
            raise ValueError("only one of --ir and --vis was given, expected both")
        check_options(self)
        if self.index_url is not None:
            check_index_name(self.index_url)
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
