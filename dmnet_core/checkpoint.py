"""Checkpoints: safetensors with the network config and a model card in the metadata.

Nothing is unpickled: a file that is not safetensors is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from dmnet_core.model import DMNet, DMNetConfig

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "compact.safetensors"
MAX_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, and what is known of them."""

    model: DMNet
    """In eval mode, float32, on the device asked for."""
    card: dict[str, str]
    """Model card: data, steps, losses, software."""
    digest: str
    """SHA-256 of the file, hexadecimal."""


def load_checkpoint(
    source: str | Path | bytes | None = None, device: str | torch.device = "cpu"
) -> Checkpoint:
    """Return the network of a checkpoint.

    Args:
        source: a path, the bytes of a file, or None for the shipped weights.
        device: where the network goes.

    Raises:
        ValueError: the bytes are no DMNet checkpoint.
        OSError: the file can't be read.
    """
    if isinstance(source, bytes):
        name, data = "checkpoint", source
    else:
        path = Path(source or SHIPPED_WEIGHTS)
        name, data = f"checkpoint {str(path)!r}", path.read_bytes()
    expected = "expected a safetensors file written by jobs/train_dmnet.py"
    try:
        tensors = load_tensors(data)
        metadata = _metadata(data)
        config = DMNetConfig.from_dict(json.loads(metadata["config"]))
        card = {str(key): str(value) for key, value in json.loads(metadata["card"]).items()}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} is no DMNet checkpoint ({error!r}), {expected}") from error
    model = DMNet(config)
    try:
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        detail = str(error).splitlines()[0]
        raise ValueError(f"{name}: the weights do not fit ({detail}), {expected}") from error
    model = model.to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Checkpoint(model, card, hashlib.sha256(data).hexdigest())


def save_checkpoint(
    model: DMNet, card: dict[str, str], *, dtype: torch.dtype = torch.float32
) -> bytes:
    """Return the checkpoint file of a network; dtype is how its weights lie on disk."""
    tensors = {
        key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()
    }
    metadata = {"config": json.dumps(model.config.to_dict()), "card": json.dumps(card)}
    return save_tensors(tensors, metadata)


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file: an 8-byte length, then a JSON header."""
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(data)):
        raise ValueError("the header's length is out of range")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata
