"""Configuration of `jobs/train_dmnet.py`: each field is an option of the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.text.options import check_index_name, check_options, option

TERMS = ("differences", "structure", "edges", "clear", "dark")
"""Names of the terms of `dmnet_core.terms`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Configuration of `jobs/train_dmnet.py`; defaults are the paper's where it prints a value."""

    # fmt: off
    index_urls: tuple[str, ...] = option(
        "Pair indexes to train on, Parquet or CSV files with the columns pair_id, ir_url and vis_url; "
        "several are taken together.",
        "input", metavar="URL",
    )
    validation_pairs: int = option(
        "Number of pairs that are not trained on, but fused and scored after each epoch.",
        "input", default=4, metavar="N", bounds=(0, 64),
    )

    output_url: str = option(
        "Folder or s3:// prefix that receives the weights, the history and the checkpoints. A training "
        "goes on from what it finds there.",
        "output", metavar="URL",
    )

    preset: str = option(
        "Size of the network: fast, compact, or paper with 386.25 million parameters.",
        "network", default="compact", choices=("fast", "compact", "paper"),
    )
    without: tuple[str, ...] = option(
        "Parts that are left out of the network or its training, for ablations: dtb, dib, dm, csab, "
        "links (the dense links of DTB and DIB) or two-stage (all epochs are then of stage II).",
        "network", default=(), metavar="PART", choices=("dtb", "dib", "dm", "csab", "links", "two-stage"),
        unset="nothing is left out",
    )
    checkpoint_url: str | None = option(
        "Weights to begin with, a .safetensors file written by train_dmnet; training stage II alone "
        "(--epochs 0 N) begins with those of stage I.",
        "network", default=None, metavar="URL", unset="random weights",
    )

    epochs: tuple[int, int] = option(
        "Number of epochs of stage I and of stage II; 0 leaves a stage out.",
        "length", default=(15, 30), metavar="N", bounds=(0, 1_000_000),
    )
    max_steps: int | None = option(
        "Stop after N steps, which the stages share in the proportion of their epochs.",
        "length", default=None, metavar="N", bounds=(1, 2**40), unset="no limit",
    )
    max_minutes: float | None = option(
        "Stop after X minutes of training, all runs together, which the stages share in the proportion "
        "of their epochs.",
        "length", default=None, metavar="X", bounds=(0.01, 1e6), unset="no limit",
    )

    crop_sides: tuple[int, ...] = option(
        "Sides of the square crops in pixels, multiples of 32. Where there are several, one is drawn "
        "for each step.",
        "crops", flag="--crop", default=(128,), metavar="PX", bounds=(32, 4096),
    )
    crops_per_pair: int = option(
        "Number of crops that an epoch takes from each pair.",
        "crops", default=1, metavar="N", bounds=(1, 100_000),
    )
    batch_size: int = option(
        "Number of crops of the first side of --crop in a step, over all workers; a step of another "
        "side has as many pixels.",
        "crops", default=8, metavar="N", bounds=(1, 65_536),
    )
    vary_tones: bool = option(
        "Give half of the crops a random tone curve, so that the network sees more kinds of exposure.",
        "crops", default=False,
    )
    seed: int = option(
        "Seed of the held-out pairs, the crops, the noise and the first weights.",
        "crops", default=0, metavar="N", bounds=(0, 2**31 - 1),
    )

    learning_rate: float = option(
        "Highest learning rate of Adam.",
        "optimization", default=1e-4, metavar="X", bounds=(1e-9, 1),
    )
    schedule: str = option(
        "Course of the learning rate: constant keeps it, cosine lets it fall to a fiftieth by the end "
        "of the training.",
        "optimization", default="constant", choices=("constant", "cosine"),
    )
    warm_up: int = option(
        "Number of first steps in which the learning rate rises to its highest value.",
        "optimization", default=0, metavar="N", bounds=(0, 2**40),
    )
    clip: float = option(
        "Largest norm of the gradient, beyond which it is scaled down; 0 never scales it.",
        "optimization", default=0.0, metavar="X", bounds=(0, 1e9),
    )
    ema: float = option(
        "Decay of the weights' running average, which is then validated and saved in place of the "
        "weights; 0 saves the weights themselves.",
        "optimization", default=0.0, metavar="X", bounds=(0, 0.999999),
    )
    lambda2: float = option(
        "Weight of the gradient loss L_gd in stage II, eq. (18) of the paper. A large one keeps the "
        "contrast of both images, a small one takes the brighter of both.",
        "optimization", default=10.0, metavar="X", bounds=(0, 1e9),
    )
    lambda0: float = option(
        "Weight of the intensity loss L_int in stage II; eq. (18) of the paper has 1.",
        "optimization", default=1.0, metavar="X", bounds=(0, 1e9),
    )
    guard: bool = option(
        "Leave the noise of the darker side out of the gradient that L_gd asks for.",
        "optimization", default=False,
    )
    gradient_gain: float = option(
        "Factor of the stronger source gradient that L_gd asks for; eq. (19) of the paper has 1.",
        "optimization", default=1.0, metavar="X", bounds=(0, 100),
    )
    directed: bool = option(
        "Ask for the direction of the stronger source gradient too, which L_gd of the paper leaves open.",
        "optimization", default=False,
    )
    terms: tuple[str, ...] = option(
        f"Further terms of the loss of stage II with their weights: {', '.join(TERMS)}.",
        "optimization", default=(), metavar="NAME=X", unset="the paper's loss",
    )
    gradient: str = option(
        "Edge operator of the gradient loss L_gd in stage II.",
        "optimization", default="sobel", choices=("sobel", "canny", "log", "roberts"),
    )
    bf16: bool = option(
        "Run the network in bfloat16; weights and losses stay float32.",
        "optimization", default=False,
    )

    num_workers: int = option(
        "Number of processes that train together, each on its share of the crops of a step.",
        "resources", default=1, metavar="N", bounds=(1, 4096),
    )
    cpus_per_worker: int = option(
        "Number of CPU threads of each worker.",
        "resources", default=2, metavar="N", bounds=(1, 1024),
    )
    use_gpu: bool = option(
        "Give each worker one GPU, and run the network there.",
        "resources", flag="--gpu", default=False,
    )
    # fmt: on

    def __post_init__(self) -> None:
        check_options(self)
        for url in self.index_urls:
            check_index_name(url)
        if self.directed and self.gradient != "sobel":
            raise ValueError(
                f"--directed is given with --gradient {self.gradient}, expected sobel, which alone has a "
                "direction"
            )
        if not sum(self.epochs):
            raise ValueError("--epochs is 0 0, expected 1 or more in at least one of the stages")
        if any(side % 32 for side in self.crop_sides):
            raise ValueError(
                f"--crop is {' '.join(map(str, self.crop_sides))}, expected multiples of 32 pixels"
            )
        self.term_weights()
        if self.batch_size % self.num_workers:
            raise ValueError(
                f"--batch-size is {self.batch_size}, expected a multiple of --workers "
                f"({self.num_workers}): it counts the crops of all workers"
            )

    def term_weights(self) -> dict[str, float]:
        """Return the weight of each term of `terms` by its name; ValueError where one is no NAME=X."""
        weights = {}
        for text in self.terms:
            name, _, number = text.partition("=")
            try:
                weights[name] = float(number)
            except ValueError:
                weights[name] = math.nan
            if name not in TERMS or not 0 <= weights[name] <= 1e9:
                raise ValueError(
                    f"--terms has {text!r}, expected NAME=X with a name of {', '.join(TERMS)} and a "
                    "weight from 0 to 1e9"
                )
        return weights
