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
import warnings
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.checkpoint import SHIPPED_WEIGHTS, load_checkpoint
from dmnet_core.model import DMNet
from dmnet_core.noise import pair_key, position_noise
from dmnet_core.prepare import MIN_SIDE

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
    with warnings.catch_warnings(), torch.no_grad():
        # They say that the sizes become constants of the model, as they are meant to.
        warnings.simplefilter("ignore")
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


def size_of(text: str) -> tuple[int, int]:
    """Return height and width of HxW, in pixels; ArgumentTypeError where it is none."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()) or min(int(height), int(width)) < MIN_SIDE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size, expected HEIGHTxWIDTH in pixels, each {MIN_SIDE} or more, as 480x640"
        )
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """Write the ONNX model of a checkpoint; exit with 2 and one line where an argument is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m dmnet_core.onnx",
        description="Write a network as an ONNX model for images of one size.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="The model that is written.")
    parser.add_argument(
        "--preset", choices=tuple(SHIPPED_WEIGHTS), default="fast", help="Weights of the package (fast)."
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="Other weights, .safetensors.")
    parser.add_argument(
        "--size", type=size_of, default="480x640", metavar="HxW",
        help="Height and width of the images in pixels (480x640).",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    height, width = given.size
    try:
        model = load_checkpoint(given.checkpoint, preset=given.preset).model
        data = to_onnx(model, height, width)
        given.file.write_bytes(data)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(f"{given.file}: {len(data) / 1e6:.2f} MB, takes ir and vis of {height}x{width} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
