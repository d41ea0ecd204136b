"""Checkpoints: safetensors with the network config and a model card in the metadata.

Nothing is unpickled: a file that is not safetensors is refused. Nothing in a file is trusted before it is
checked: a network is built only after its config was found to have a sane size and to fit the tensors.
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

from dmnet_core.allocator import keep_memory
from dmnet_core.model import DMNet, DMNetConfig

SHIPPED_WEIGHTS = {
    preset: Path(__file__).parent / "weights" / f"{preset}.safetensors" for preset in ("compact", "fast")
}
"""Files of the weights that come with the package, by the preset of their network."""
MAX_HEADER_BYTES = 16 * 2**20
MAX_DETAIL = 300
"""Longest part of an error message that may quote a file, in characters."""
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types that weights may have on disk."""
LARGEST = {
    "dim": 4096, "num_heads": 4096, "num_dtb_layers": 64, "num_dib_layers": 64,
    "num_decoder_layers": 64, "ffn_expansion": 64, "unet_base": 4096, "unet_multipliers": 64,
    "unet_res_blocks": 64, "unet_groups": 4096, "dm_stride": 64, "num_noise_steps": 100_000,
    "feature_steps": 100_000, "unshuffle": 16,
}  # fmt: skip
"""Largest value of each numeric field of a config, at least 8 times the paper's; the smallest is 1."""
MAX_ITEMS = 16
"""Largest number of items in a field that is a list."""
REFUSED = (
    SafetensorError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError,
)  # fmt: skip
"""Errors that the parsers and the network's constructor raise on hostile bytes. RecursionError is a
RuntimeError."""


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, and where they come from."""

    model: DMNet
    """The network in eval mode, float32, on the requested device."""
    card: dict[str, str]
    """Model card: training data, steps, losses and software."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""


def load_checkpoint(
    source: str | Path | bytes | None = None,
    device: str | torch.device = "cpu",
    *,
    preset: str = "compact",
) -> Checkpoint:
    """Return the network of a checkpoint.

    On a CPU the process keeps its memory from then on: see `dmnet_core.allocator`.

    Args:
        source: a path, the bytes of a file, or None for the weights that come with the package.
        device: device that the network is moved to.
        preset: which of these weights: compact or fast.

    Raises:
        ValueError: the bytes are no DMNet checkpoint.
        OSError: the file can't be read.
    """
    if isinstance(source, bytes):
        name, data = "checkpoint", source
    else:
        path = Path(source or SHIPPED_WEIGHTS[preset])
        name, data = f"checkpoint {str(path)!r}", path.read_bytes()
    expected = "expected a safetensors file written by jobs/train_dmnet.py"
    try:
        tensors = load_tensors(data)
        config, card = _described(metadata_of(data))
        _check_tensors(tensors, config)
    except REFUSED as error:
        detail = repr(error)[:MAX_DETAIL]
        raise ValueError(f"{name} is no DMNet checkpoint ({detail}), {expected}") from error
    if torch.device(device).type == "cpu":
        keep_memory()
    model = DMNet(config)
    model.load_state_dict({key: value.float() for key, value in tensors.items()})
    model = model.to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Checkpoint(model, card, hashlib.sha256(data).hexdigest())


def save_checkpoint(
    model: DMNet, card: dict[str, str], *, dtype: torch.dtype = torch.float32
) -> bytes:
    """Return the bytes of a checkpoint file; dtype is the type of its weights on disk."""
    tensors = {
        key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()
    }
    metadata = {"config": json.dumps(model.config.to_dict()), "card": json.dumps(card)}
    return save_tensors(tensors, metadata)


def _described(metadata: dict[str, str]) -> tuple[DMNetConfig, dict[str, str]]:
    """Return the config and the card of a file's metadata."""
    values, card = json.loads(metadata["config"]), json.loads(metadata["card"])
    if not isinstance(values, dict) or not isinstance(card, dict):
        raise ValueError("config or card is no JSON object")
    for field, value in values.items():
        items = value if isinstance(value, list) else [value]
        kinds: tuple[type, ...] = (int, float) if field == "ffn_expansion" else (int,)
        low, high = (1, LARGEST[field]) if field in LARGEST else (0, 0)
        if len(items) > MAX_ITEMS:
            raise ValueError(f"{field} has {len(items)} items, expected at most {MAX_ITEMS}")
        if field in LARGEST and not all(type(n) in kinds and low <= n <= high for n in items):
            raise ValueError(f"{field} is {value!r}, expected a number from {low} to {high}")
        if field == "anchored" and not isinstance(value, bool):
            raise ValueError(f"{field} is {value!r}, expected true or false")
    return DMNetConfig.from_dict(values), {str(key): str(value) for key, value in card.items()}


def _check_tensors(tensors: dict[str, torch.Tensor], config: DMNetConfig) -> None:
    """Raise ValueError where the tensors are not the network's; no memory is taken for its weights."""
    with torch.device("meta"):
        wanted = DMNet(config).state_dict()
    for key in sorted(wanted.keys() ^ tensors.keys()):
        what = "missing" if key in wanted else "not one of the network's"
        raise ValueError(f"tensor {key!r} is {what}")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape or tensor.dtype not in DTYPES:
            raise ValueError(
                f"tensor {key!r} is {tensor.dtype} of {tuple(tensor.shape)}, expected a float of "
                f"{tuple(wanted[key].shape)}"
            )


def metadata_of(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file: an 8-byte length, then a JSON header.

    Raises:
        ValueError, KeyError or TypeError: the bytes are no such file.
    """
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(data)):
        raise ValueError("the header's length is out of range")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata
