"""The survey of a scene: its statistics, taken once before its windows from a few samples of it.

Flow: `shrink` makes overviews of both images, `plan_samples` says by them which samples to read and how
much each weighs, `survey` runs the network on all samples together and records its image-wide numbers.
The cost does not grow with the scene.

Ours: small samples on a regular grid, read at full resolution with a halo that takes no part. Their
weights are calibrated (Deville and Sarndal, J. Am. Stat. Assoc. 87(418), 1992): the weighted means of a
few features of both images are those of the whole overview. A few more samples, which weigh nothing in
means, are put where the scene is brightest, darkest and has most contrast: they give the maxima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmnet_core.inference import fuse_maps
from dmnet_core.model import DMNet
from dmnet_core.model.config import DMNetConfig
from dmnet_core.prepare import Float
from dmnet_core.statistics import Counted, SceneStatistics, recording
from dmnet_core.window import Span, Window

SAMPLE = 64
"""Side of a sample without its halo, in pixels; rounded up to the network's multiple."""
NUM_SAMPLES = 8
"""Samples of the regular grid along each axis; fewer where they would overlap."""
MIN_HALO = 32
"""Least halo of a sample and of a window, in pixels."""
OVERVIEW = 256
"""Longer side of an overview, in pixels, at most."""
RIDGE = 0.01
"""How much the weights keep to 1, over how much the features keep to those of the overview."""
LEAST_WEIGHT = 0.05
"""Least weight of a sample of the grid, whose mean weight is about 1."""
EXTREMES = ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (3, 1))
"""Feature and sign of each extreme: the most and the least of infrared and visible, the most contrast."""


@dataclass(frozen=True)
class Sample:
    """One sample of a scene."""

    window: Window
    """Pixels to read: those that take part in the statistics, and a halo."""
    weight: float
    """How much its pixels weigh in means; 0 for a sample that gives maxima only."""


def halo_of(config: DMNetConfig) -> int:
    """Return the halo of samples and windows, in pixels: MIN_HALO, or the network's multiple above it."""
    return -(-MIN_HALO // config.size_multiple) * config.size_multiple


def shrink(image: Float) -> Float:
    """Return an overview of an (H, W) image: means of squares, at most OVERVIEW pixels long."""
    side = -(-max(image.shape) // OVERVIEW)
    whole = torch.from_numpy(np.ascontiguousarray(image))[None]
    small: Float = F.avg_pool2d(whole, side, ceil_mode=True)[0].numpy()
    return small


def plan_samples(
    config: DMNetConfig, ir: Float, vis: Float, height: int, width: int
) -> list[Sample]:
    """Return the samples that a scene's statistics are to be taken from.

    Args:
        config: of the network.
        ir: infrared luminance in [0, 1] of an overview of the whole scene.
        vis: visible luminance in [0, 1] of an overview of the same size.
        height: height of the scene, in pixels.
        width: width of the scene, in pixels.
    """
    rows, columns = (_grid(length, config) for length in (height, width))
    windows = [Window(row, column) for row in rows for column in columns]
    features = _features(ir, vis)
    weights = _calibrated(features, windows)
    samples = [Sample(window, weight) for window, weight in zip(windows, weights, strict=True)]
    for feature, sign in EXTREMES:
        place = int((sign * features[feature]).argmax())
        y, x = divmod(place, features.shape[2])
        window = Window(
            _span(height, round((y + 0.5) * height / features.shape[1]), config),
            _span(width, round((x + 0.5) * width / features.shape[2]), config),
        )
        if window not in [sample.window for sample in samples]:
            samples.append(Sample(window, 0.0))
    return samples


def survey(
    model: DMNet,
    samples: list[Sample],
    images: list[tuple[Float, Float]],
    *,
    pair_id: str = "",
    seed: int = 0,
    precision: str = "fp32",
) -> SceneStatistics:
    """Take a scene's statistics from samples of it; all go through the network at once.

    Args:
        model: in eval mode.
        samples: from `plan_samples`.
        images: infrared and visible luminance in [0, 1] of each sample's window, (h, w) both.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.
    """
    multiple, device = model.config.size_multiple, next(model.parameters()).device
    ir, vis = (
        torch.cat([_padded(image, multiple) for image in side]).to(device)
        for side in zip(*images, strict=True)
    )
    mask = torch.zeros(len(ir), *ir.shape[2:], dtype=torch.bool, device=device)
    for part, sample in zip(mask, samples, strict=True):
        part[_counted(sample.window.rows), _counted(sample.window.columns)] = True
    weights = torch.tensor([sample.weight for sample in samples], device=device)
    origins = [(sample.window.rows.start, sample.window.columns.start) for sample in samples]
    with recording(model, Counted(mask, weights)) as statistics:
        fuse_maps(
            model, ir, vis, pair_ids=[pair_id] * len(ir), seed=seed, precision=precision, origins=origins
        )
    return statistics


def _grid(length: int, config: DMNetConfig) -> list[Span]:
    """Return what the samples of the grid cover along one axis, evenly spread."""
    multiple = config.size_multiple
    side, core = _side(length, config), -(-SAMPLE // multiple) * multiple
    steps = -(-length // multiple) - side // multiple
    number = min(NUM_SAMPLES, -(-length // core)) if steps else 1
    starts = {round(k * steps / max(1, number - 1)) * multiple for k in range(number)}
    return [_span_from(length, start, config) for start in sorted(starts)]


def _side(length: int, config: DMNetConfig) -> int:
    """Return the length of a sample with its halo along one axis, after padding."""
    multiple = config.size_multiple
    core = -(-SAMPLE // multiple) * multiple
    return min(core + 2 * halo_of(config), -(-length // multiple) * multiple)


def _span(length: int, middle: int, config: DMNetConfig) -> Span:
    """Return what the sample around a pixel covers along one axis."""
    multiple, side = config.size_multiple, _side(length, config)
    last = -(-length // multiple) * multiple - side
    return _span_from(length, min(max(0, round((middle - side / 2) / multiple) * multiple), last), config)


def _span_from(length: int, start: int, config: DMNetConfig) -> Span:
    """Return what the sample that begins at a pixel covers; it has no halo at the image's ends."""
    stop, halo = start + _side(length, config), halo_of(config)
    first = start + halo if start > 0 else 0
    last = stop - halo if stop < length else length
    return Span(length=length, start=start, stop=min(stop, length), first=first, last=last)


def _features(ir: Float, vis: Float) -> Tensor:
    """Return local features of both overviews, (7, h, w): values, contrast, squares and product."""
    maps = torch.from_numpy(np.stack([ir, vis]))
    down = F.pad(maps.diff(dim=1), (0, 0, 0, 1))
    right = F.pad(maps.diff(dim=2), (0, 1))
    contrast = (down.square() + right.square()).sqrt()
    return torch.cat([maps, contrast, maps.square(), maps.prod(dim=0, keepdim=True)])


def _calibrated(features: Tensor, windows: list[Window]) -> list[float]:
    """Return the weights by which the windows' features have the means of all.

    Of the weights that do, these are nearest to 1, the nearer the more pixels a window counts. The
    features are in units of their standard deviation; RIDGE bounds the weights where no weights do.
    """
    scale = features.flatten(1).std(dim=1).clamp(min=1e-6)[:, None, None]
    features = ((features - features.mean(dim=(1, 2), keepdim=True)) / scale).double()
    means, sizes = [], []
    for window in windows:
        rows, columns = (
            _at_scale(span, length)
            for span, length in zip((window.rows, window.columns), features.shape[1:], strict=True)
        )
        means.append(features[:, rows, columns].mean(dim=(1, 2)))
        sizes.append(
            (window.rows.last - window.rows.first) * (window.columns.last - window.columns.first)
        )
    shares = torch.tensor(sizes, dtype=torch.float64)
    shares = (shares / shares.sum())[:, None]
    known = torch.cat([torch.ones_like(shares), torch.stack(means)], dim=1)  # (windows, 1 + features)
    wanted = torch.zeros(known.shape[1], dtype=torch.float64)
    wanted[0] = 1.0  # the weights' mean; that of each feature is 0
    ridge = RIDGE * (1.0 - wanted)
    slopes = torch.linalg.solve(
        (known * shares).T @ known + torch.diag(ridge), wanted - (known * shares).sum(dim=0)
    )
    return [float(weight) for weight in (1.0 + known @ slopes).clamp(min=LEAST_WEIGHT)]


def _at_scale(span: Span, length: int) -> slice:
    """Return the pixels of an overview, `length` long, that a window's core covers; one at least."""
    first = min(int(span.first * length / span.length), length - 1)
    return slice(first, max(first + 1, int(span.last * length / span.length)))


def _counted(span: Span) -> slice:
    """Return the pixels that count along one axis: the core, and the padding at the image's end."""
    return slice(span.first - span.start, None if span.last == span.length else span.last - span.start)


def _padded(image: Float, multiple: int) -> Tensor:
    height, width = image.shape
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(torch.from_numpy(np.ascontiguousarray(image))[None, None], padding, mode="replicate")
