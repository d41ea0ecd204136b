"""What a run will cost, said before it starts: memory of an actor, windows, megapixels and time."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import torch

from cluster.archive.pair import open_pair
from cluster.archive.pair_index import READ
from cluster.archive.reasons import BadPair
from cluster.fusing.config import FuseConfig
from cluster.storage.tables import Database
from cluster.text import units
from dmnet_core.inference import fuse_maps, memory_bytes
from dmnet_core.model import DMNet
from dmnet_core.survey import halo_of, most_pixels
from dmnet_core.window import WHOLE, count_windows, is_scene

PROCESS_BYTES = 500_000_000
"""Memory of a process that holds PyTorch, Ray and nothing else."""
NUM_LOOKED_AT = 16
"""Number of pairs whose headers are read to estimate the sizes of all."""
TRIAL_SIDE = 256
"""Side of the image by which the network's speed on this machine is measured, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the pairs of a plan will cost, from a few of them."""

    num_windows: int
    """Windows to fuse; a frame is one."""
    megapixels: float
    """Megapixels to fuse."""
    seconds: float
    """Time that the actors will take for them; 0 where it is not known, as for GPUs."""


def estimate(database: Database, config: FuseConfig, model: DMNet) -> Estimate | None:
    """Return what the pairs of the table `todo` will cost; None where none of a few can be opened."""
    (number,) = database.first("select count(*) from todo")
    rows = database.frame(
        f"select {', '.join(READ)} from pairs semi join todo using (__row) "
        "order by hash(pair_id) limit $most",
        most=NUM_LOOKED_AT,
    ).to_dict("records")
    options = config.opening().options
    sizes = []
    for row in rows:
        with suppress(BadPair), open_pair(row, **options) as pair:
            sizes.append((pair.grid.height, pair.grid.width))
    if not sizes:
        return None
    share = number / len(sizes)
    windows = sum(
        count_windows(*size, config.window) if is_scene(*size, config.window) else 1 for size in sizes
    )
    megapixels = share * sum(height * width for height, width in sizes) / 1e6
    seconds = 0.0 if config.on_cuda else _seconds_a_megapixel(model, config.cpus_per_actor) * megapixels
    return Estimate(
        num_windows=round(share * windows), megapixels=megapixels, seconds=seconds / config.num_actors
    )


def describe_actor_memory(model: DMNet, config: FuseConfig) -> str:
    """Return in words what an actor on the CPU needs at most; nothing for one on a GPU."""
    if config.on_cuda:
        return ""
    side = config.window + 2 * halo_of(model.config)
    num_pixels = max(int(WHOLE * config.window**2), side**2, most_pixels(model.config))
    most = actor_bytes(model, num_pixels)
    return f"an actor needs up to {units.size(most)} with windows of {config.window} pixels"


def actor_bytes(model: DMNet, num_pixels: int) -> int:
    """Return about the most memory, in bytes, that an actor takes for an image of a size, on a CPU."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return PROCESS_BYTES + weights + memory_bytes(model.config, num_pixels)


def _seconds_a_megapixel(model: DMNet, num_threads: int) -> float:
    """Return the time of the network on this machine, in seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        image = torch.rand(1, 1, TRIAL_SIDE, TRIAL_SIDE, generator=torch.Generator().manual_seed(0))
        taken = []
        for _ in range(2):  # the first one is slower
            start = time.perf_counter()
            fuse_maps(model, image, image, pair_ids=[""], seed=0, precision="fp32")
            taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return taken[-1] / (TRIAL_SIDE**2 / 1e6)
