"""A network as an ONNX model for images of one size.

    python -m dmnet_core.onnx --preset fast --size 480x640 FILE.onnx

The model takes `ir` and `vis`, (1, 1, H, W) float32 luminance in [0, 1], and gives `fused` of the same
shape and range; padding and DM's noise are part of it. So it needs neither PyTorch nor this package to
run. Writing it needs the package onnx: pip install "dmnet-archive[onnx]".
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.checkpoint import SHIPPED_WEIGHTS, load_checkpoint
from dmnet_core.model import DMNet
from dmnet_core.noise import pair_key, position_noise

OPSET = 17
"""Version of ONNX's set of operators that the model is written in."""


class OneSize(nn.Module):
    """A network for images of one size, with their padding and their noise."""

    noise: Tensor

    def __init__(self, model: DMNet, height: int, width: int) -> None:
        """Wrap a network; its noise is that of the pair_id "" and the seed 0."""
        super().__init__()
        multiple, stride = model.config.size_multiple, model.config.dm_stride
        self.model = model
        self.height, self.width = height, width
        self.padding = (0, -width % multiple, 0, -height % multiple)
        size = ((height + self.padding[3]) // stride, (width + self.padding[1]) // stride)
        noise = position_noise(pair_key("", 0), model.config.feature_steps, *size)
        self.register_buffer("noise", noise[None])  # (1, S, 2, h, w)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Return the fused luminance, (1, 1, H, W) in [0, 1]."""
        ir, vis = (F.pad(image, self.padding, mode="replicate") for image in (ir, vis))
        fused: Tensor = self.model(ir, vis, self.noise)[:, :, : self.height, : self.width]
        return fused


def to_onnx(model: DMNet, height: int, width: int) -> bytes:
    """Return a network in eval mode as the bytes of an ONNX model for images of height x width pixels.

    Raises:
        ModuleNotFoundError: the package onnx is not installed.
    """
    file = io.BytesIO()
    torch.onnx.export(
        OneSize(model, height, width).eval(),
        (torch.zeros(1, 1, height, width), torch.zeros(1, 1, height, width)),
        cast(Any, file),
        input_names=["ir", "vis"],
        output_names=["fused"],
        opset_version=OPSET,
        dynamo=False,
    )
    return file.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Write the ONNX model of a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m dmnet_core.onnx", description=to_onnx.__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="The model that is written.")
    parser.add_argument(
        "--preset", choices=tuple(SHIPPED_WEIGHTS), default="fast", help="Weights of the package (fast)."
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="Other weights, .safetensors.")
    parser.add_argument(
        "--size", default="480x640", metavar="HxW", help="Height and width in pixels (480x640)."
    )
    given = parser.parse_args(arguments)
    model = load_checkpoint(given.checkpoint, preset=given.preset).model
    data = to_onnx(model, *map(int, given.size.split("x")))
    given.file.write_bytes(data)
    print(f"{given.file}: {len(data) / 1e6:.2f} MB, takes ir and vis of {given.size} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
