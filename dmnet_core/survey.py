"""The survey of a scene: its statistics, taken once before its windows from a few samples of it.

Flow: `shrink` makes overviews of both images, `plan_samples` says by them which samples to read and how
much each weighs, `survey` runs the network on all samples together and records its image-wide numbers.
The cost does not grow with the scene. A scene of no more pixels than all samples take, 2.6 million
with `compact` and `fast`, is its own only sample: its statistics are those of the image fused whole.

Ours: small samples on a regular grid, read at full resolution with a halo that takes no part. Their
weights are calibrated (Deville and Sarndal, J. Am. Stat. Assoc. 87(418), 1992): the weighted means of a
few features of both images are those of the whole overview. A few more samples, which weigh nothing in
means, are put where the scene is brightest, darkest and has most contrast: they give the maxima. Pixels
without data take no part: they are filled from elsewhere, and a scene may have many of them.
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
from dmnet_core.ranges import Mask
from dmnet_core.reading import overview_of
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
    """Return the halo of samples and windows, in pixels: a multiple of the network's.

    It is MIN_HALO, and twice that where the feature maps are smaller than the image, since their
    convolutions reach farther. Four times, as the maps of `fast` reach, would halve its speed and change
    little at window borders.
    """
    halo = MIN_HALO * min(config.unshuffle, 2)
    return -(-halo // config.size_multiple) * config.size_multiple


def most_pixels(config: DMNetConfig) -> int:
    """Return the most pixels that `survey` takes at once: those of all samples, with their halos."""
    core = -(-SAMPLE // config.size_multiple) * config.size_multiple
    side = core + 2 * halo_of(config)
    return (NUM_SAMPLES**2 + len(EXTREMES)) * side**2


def shrink(image: Float) -> Float:
    """Return an overview of an (H, W) image: means of squares, at most OVERVIEW pixels long."""
    side = -(-max(image.shape) // OVERVIEW)
    whole = torch.from_numpy(np.ascontiguousarray(image))[None]
    small: Float = F.avg_pool2d(whole, side, ceil_mode=True)[0].numpy()
    return small


def plan_samples(
    config: DMNetConfig, ir: Float, vis: Float, height: int, width: int, valid: Mask | None = None
) -> list[Sample]:
    """Return the samples that a scene's statistics are to be taken from, at least one that weighs.

    That is the whole scene where it has at most `most_pixels`. Samples without any data are left out.

    Args:
        config: of the network.
        ir: (h, w) infrared luminance in [0, 1] of an overview of the whole scene, of any size.
        vis: visible luminance in [0, 1] of an overview of the same size.
        height: height of the scene, in pixels.
        width: width of the scene, in pixels.
        valid: (h, w), True where both overviews have data; None where they have data everywhere.
    """
    if height * width <= most_pixels(config):
        return [Sample(Window.of_image(height, width), 1.0)]
    ir, vis, valid = _shrunk(ir, vis, valid)
    rows, columns = (_grid(length, config) for length in (height, width))
    windows = [Window(row, column) for row in rows for column in columns]
    if valid is not None:
        windows = [window for window in windows if valid[_area(window, valid.shape)].any()]
    features = _features(ir, vis, valid)
    known = None if valid is None else torch.from_numpy(valid)
    weights = _calibrated(features, windows, known) if windows else []
    samples = [Sample(window, weight) for window, weight in zip(windows, weights, strict=True)]
    for feature, sign in EXTREMES:
        values = sign * features[feature]
        place = int((values if known is None else values.masked_fill(~known, -torch.inf)).argmax())
        y, x = divmod(place, features.shape[2])
        window = Window(
            _span(height, round((y + 0.5) * height / features.shape[1]), config),
            _span(width, round((x + 0.5) * width / features.shape[2]), config),
        )
        if window not in [sample.window for sample in samples]:
            samples.append(Sample(window, 0.0 if windows else 1.0))
    return samples


def _shrunk(ir: Float, vis: Float, valid: Mask | None) -> tuple[Float, Float, Mask | None]:
    """Return overviews that are at most OVERVIEW pixels long: means of their pixels with data."""
    if valid is None:
        return shrink(ir), shrink(vis), None
    step = -(-max(ir.shape) // OVERVIEW)
    (small_ir, seen), (small_vis, _) = (overview_of(image, valid, step) for image in (ir, vis))
    return small_ir.astype(np.float32), small_vis.astype(np.float32), seen


def survey(
    model: DMNet,
    samples: list[Sample],
    images: list[tuple[Float, Float]],
    *,
    pair_id: str = "",
    seed: int = 0,
    precision: str = "fp32",
    masks: list[Mask | None] | None = None,
) -> SceneStatistics:
    """Take a scene's statistics from samples of it; all go through the network at once.

    Args:
        model: in eval mode.
        samples: from `plan_samples`.
        images: infrared and visible luminance in [0, 1] of each sample's window, (h, w) both.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.
        masks: (h, w) of each sample's window, True where both images have data; None for a sample, or
            for all, where they have data everywhere. Where a mask is False a pixel takes no part in the
            statistics, unless that is everywhere.
    """
    multiple, device = model.config.size_multiple, next(model.parameters()).device
    ir, vis = (
        torch.cat([_padded(image, multiple) for image in side]).to(device)
        for side in zip(*images, strict=True)
    )
    counted = _counted_pixels(samples, masks, ir)
    origins = [(sample.window.rows.start, sample.window.columns.start) for sample in samples]
    with recording(model, counted) as statistics:
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


def _features(ir: Float, vis: Float, valid: Mask | None) -> Tensor:
    """Return local features of both overviews, (7, h, w): values, contrast, squares and product.

    A pixel has no contrast to one without data.
    """
    maps = torch.from_numpy(np.stack([ir, vis]))
    down, right = maps.diff(dim=1), maps.diff(dim=2)
    if valid is not None:
        known = torch.from_numpy(valid)
        down, right = down * (known[1:] & known[:-1]), right * (known[:, 1:] & known[:, :-1])
    contrast = (F.pad(down, (0, 0, 0, 1)).square() + F.pad(right, (0, 1)).square()).sqrt()
    return torch.cat([maps, contrast, maps.square(), maps.prod(dim=0, keepdim=True)])


def _calibrated(features: Tensor, windows: list[Window], valid: Tensor | None) -> list[float]:
    """Return the weights by which the windows' features have the means of all pixels with data.

    Of the weights that do, these are nearest to 1, the nearer the more pixels a window counts. The
    features are in units of their standard deviation; RIDGE bounds the weights where no weights do.

    Args:
        features: (F, h, w) of the overview.
        windows: of the samples, each with data.
        valid: (h, w) bool, True where there are data; None where there are data everywhere.
    """
    known = torch.ones(features.shape[1:], dtype=torch.bool) if valid is None else valid
    pixels = features[:, known]  # (F, N)
    # one pixel alone has a deviation of 0
    deviation = pixels.std(dim=1, correction=min(1, pixels.shape[1] - 1))
    scale = deviation.clamp(min=1e-6)[:, None, None]
    features = ((features - pixels.mean(dim=1)[:, None, None]) / scale).double()
    means, sizes = [], []
    for window in windows:
        area = _area(window, known.shape)
        means.append(features[:, *area][:, known[area]].mean(dim=1))
        height, width = (span.last - span.first for span in (window.rows, window.columns))
        sizes.append(height * width * float(known[area].double().mean()))
    shares = torch.tensor(sizes, dtype=torch.float64)
    shares = (shares / shares.sum())[:, None]
    constrained = torch.cat([torch.ones_like(shares), torch.stack(means)], dim=1)  # (windows, 1 + F)
    wanted = torch.zeros(constrained.shape[1], dtype=torch.float64)
    wanted[0] = 1.0  # the weights' mean; that of each feature is 0
    ridge = RIDGE * (1.0 - wanted)
    slopes = torch.linalg.solve(
        (constrained * shares).T @ constrained + torch.diag(ridge),
        wanted - (constrained * shares).sum(dim=0),
    )
    return [float(weight) for weight in (1.0 + constrained @ slopes).clamp(min=LEAST_WEIGHT)]


def _area(window: Window, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the pixels of an overview of a shape, (h, w), that a window's core covers."""
    return _at_scale(window.rows, shape[0]), _at_scale(window.columns, shape[1])


def _at_scale(span: Span, length: int) -> slice:
    """Return the pixels of an overview, `length` long, that a window's core covers; one at least."""
    first = min(int(span.first * length / span.length), length - 1)
    return slice(first, max(first + 1, int(span.last * length / span.length)))


def _counted(span: Span) -> slice:
    """Return the pixels that count along one axis: the core, and the padding at the image's end."""
    return slice(span.first - span.start, None if span.last == span.length else span.last - span.start)


def _counted_pixels(
    samples: list[Sample], masks: list[Mask | None] | None, images: Tensor
) -> Counted:
    """Return which pixels of the padded samples, (B, 1, H, W), take part in the statistics."""
    cores = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
    for part, sample in zip(cores, samples, strict=True):
        part[_counted(sample.window.rows), _counted(sample.window.columns)] = True
    mask = cores.clone()
    for part, valid in zip(mask, masks or [None] * len(samples), strict=True):
        if valid is not None:
            sides = [(0, whole - own) for whole, own in zip(part.shape, valid.shape, strict=True)]
            part &= torch.from_numpy(np.pad(valid, sides, mode="edge"))
    if not mask.any():
        mask = cores
    weights = torch.tensor([sample.weight for sample in samples])
    if not (weights * mask.any(dim=2).any(dim=1)).any():
        weights = torch.ones(len(samples))
    return Counted(mask.to(images.device), weights.to(images.device))


def _padded(image: Float, multiple: int) -> Tensor:
    height, width = image.shape
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(torch.from_numpy(np.ascontiguousarray(image))[None, None], padding, mode="replicate")
