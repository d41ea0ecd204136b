"""How much memory an actor that holds the network takes, said before a run starts."""

from __future__ import annotations

from cluster.fusing.config import FuseConfig
from cluster.text import units
from dmnet_core.inference import memory_bytes
from dmnet_core.model import DMNet

PROCESS_BYTES = 500_000_000
"""Memory of a process that holds PyTorch, Ray and nothing else."""


def describe_actor_memory(model: DMNet, config: FuseConfig) -> str:
    """Return in words what an actor on the CPU needs at most; nothing for one on a GPU."""
    if config.on_cuda:
        return ""
    empty, most = actor_bytes(model, 0), actor_bytes(model, config.max_pixels)
    megapixel = actor_bytes(model, 1_000_000) - empty
    return (
        f"an actor needs {units.size(empty)} and {units.size(megapixel)} a megapixel of its largest "
        f"image: {units.size(most)} with one of --max-pixels"
    )


def actor_bytes(model: DMNet, num_pixels: int) -> int:
    """Return about the most memory, in bytes, that an actor takes for an image of a size, on a CPU."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return PROCESS_BYTES + weights + memory_bytes(model.config, num_pixels)
