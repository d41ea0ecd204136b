"""What is found once for a scene and used by every window of it, in one file.

    data = SceneSurvey(height, width, window, reading, statistics).to_bytes()
    scene = SceneSurvey.from_bytes(data)

The file is safetensors: the statistics and the borders' masks are its tensors, all else is JSON in its
metadata. Nothing is unpickled, and nothing in a file is trusted before it is checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from dmnet_core.checkpoint import MAX_DETAIL, REFUSED, metadata_of
from dmnet_core.reading import SceneReading, SideReading
from dmnet_core.statistics import SceneStatistics

NAME = "scene_survey"
"""Name of the JSON in a file's metadata. It is one text, since names in the metadata have no order."""
STATISTICS = "statistics/"
"""Beginning of the names of the statistics' tensors in a file."""
COLOUR_SIDES = ("vis", "ir", "none")


@dataclass(frozen=True)
class SceneSurvey:
    """How a scene's source values are read, and its image-wide numbers."""

    height: int
    """Height of the scene, in pixels."""
    width: int
    """Width of the scene, in pixels."""
    window: int
    """Side of the windows that the scene is fused in, without their halo, in pixels."""
    reading: SceneReading
    """How source values are mapped to [0, 1], and which pixels have no data."""
    statistics: SceneStatistics
    """Image-wide numbers of the network."""

    def to_bytes(self) -> bytes:
        """Return the bytes of a safetensors file; equal content gives equal bytes."""
        sides = {"ir": self.reading.ir, "vis": self.reading.vis}
        described = {
            "height": self.height,
            "width": self.width,
            "window": self.window,
            "step": self.reading.step,
            "colour": self.reading.colour,
            "num_pixels": self.statistics.num_pixels,
            **{
                name: {"limits": side.limits, "fill": side.fill, "border_limits": side.border_limits}
                for name, side in sides.items()
            },
        }
        tensors = {STATISTICS + name: tensor for name, tensor in self.statistics.tensors.items()}
        for name, side in sides.items():
            if side.border is not None:
                tensors[_border(name)] = torch.from_numpy(side.border)
        return save_tensors(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
            {NAME: json.dumps(described, sort_keys=True)},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SceneSurvey:
        """Return the survey of a file that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no such file.
        """
        try:
            tensors = load_tensors(data)
            described = json.loads(metadata_of(data)[NAME])
            return _read(described, tensors)
        except REFUSED as error:
            raise ValueError(
                f"{len(data)} bytes are no survey of a scene ({repr(error)[:MAX_DETAIL]}), expected a "
                "file written by SceneSurvey.to_bytes: survey the scene again"
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def _border(side: str) -> str:
    """Return the name of the tensor that holds a side's border."""
    return f"{side}_border"


def _read(described: dict[str, Any], tensors: dict[str, Tensor]) -> SceneSurvey:
    """Return the survey of a file's JSON and tensors; any error is one of REFUSED."""
    numbers = {
        name: _whole(described, name) for name in ("height", "width", "window", "step", "num_pixels")
    }
    height, width, step = (numbers[name] for name in ("height", "width", "step"))
    overview = (-(-height // step), -(-width // step))
    sides = {name: _read_side(described[name], tensors.pop(_border(name), None), overview)
             for name in ("ir", "vis")}  # fmt: skip
    if described["colour"] not in COLOUR_SIDES:
        raise ValueError(f"colour is {described['colour']!r}, expected one of {', '.join(COLOUR_SIDES)}")
    statistics = {}
    for name, tensor in tensors.items():
        if not name.startswith(STATISTICS) or tensor.dtype != torch.float32:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, expected float32 statistics alone")
        statistics[name.removeprefix(STATISTICS)] = tensor
    return SceneSurvey(
        height,
        width,
        numbers["window"],
        SceneReading(height, width, step, **sides, colour=described["colour"]),
        SceneStatistics(statistics, numbers["num_pixels"]),
    )


def _read_side(
    described: dict[str, Any], border: Tensor | None, overview: tuple[int, int]
) -> SideReading:
    """Return how a side is read; a border must have the overview's height and width."""
    low, high = (_real(value) for value in described["limits"])
    borders = tuple((_real(least), _real(greatest)) for least, greatest in described["border_limits"])
    if (border is None) != (not borders):
        raise ValueError("a border has values without a mask, or a mask without values")
    if border is not None and (border.dtype != torch.bool or tuple(border.shape) != overview):
        raise ValueError(
            f"a border is {border.dtype} of {tuple(border.shape)}, expected torch.bool of {overview}"
        )
    mask = None if border is None else border.numpy()
    return SideReading((low, high), _real(described["fill"]), borders, mask)


def _whole(described: dict[str, Any], name: str) -> int:
    value = described[name]
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number from 1")
    return value


def _real(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"a range, fill or border value is {value!r}, expected a finite number")
    return value
