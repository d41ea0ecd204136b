"""Fusing an image larger than memory window by window, without a seam.

Flow: dmnet_core.survey takes the scene's statistics, once. `fuse_window` then fuses each window of
`scene_windows` by those statistics. Windows do not depend on each other, and agree where they meet: a
window is read with a halo, which is cut off after the network, its origin is a multiple of the network's
size multiple, and noise counts from the scene's origin. `fuse_scene` does all of it in memory.
"""

from __future__ import annotations

import numpy as np
import torch

from dmnet_core.inference import fuse_maps, fuse_prepared
from dmnet_core.metrics.windows import core_of
from dmnet_core.model import DMNet
from dmnet_core.model.config import DMNetConfig
from dmnet_core.prepare import Float, PreparedPair
from dmnet_core.statistics import SceneStatistics, replaying
from dmnet_core.survey import halo_of, plan_samples, shrink, survey
from dmnet_core.window import Window, cut


def scene_windows(config: DMNetConfig, height: int, width: int, window: int) -> list[Window]:
    """Return the windows of a scene, with their halos.

    Args:
        config: of the network.
        height: height of the scene, in pixels.
        width: width of the scene, in pixels.
        window: side of a window without its halo, in pixels; a multiple of the network's `size_multiple`.

    Raises:
        ValueError: window is no such multiple.
    """
    if window < 1 or window % config.size_multiple:
        raise ValueError(
            f"the window is {window} pixels, expected a multiple of {config.size_multiple}, which this "
            "network needs"
        )
    return list(cut(height, width, window, halo_of(config)))


def array_of(image: Float, window: Window) -> Float:
    """Return the pixels of an (H, W) image in memory that a window's array covers."""
    rows, columns = window.rows, window.columns
    return image[rows.start : rows.stop, columns.start : columns.stop]


def fuse_window(
    model: DMNet,
    ir: Float,
    vis: Float,
    window: Window,
    statistics: SceneStatistics,
    *,
    pair_id: str = "",
    seed: int = 0,
    precision: str = "fp32",
) -> Float:
    """Fuse one window of a scene.

    Args:
        model: in eval mode, with the weights that the statistics were taken with.
        ir: (h, w) infrared luminance in [0, 1] of the window with its halo.
        vis: (h, w) visible luminance in [0, 1] of the same pixels.
        window: what the arrays cover of the scene, from `scene_windows`.
        statistics: of the scene, from `survey`.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.

    Returns:
        The fused luminance in [0, 1] of the window's core, without the halo.

    Raises:
        ValueError: an array has another size than the window, or the window's origin is no multiple of
            the network's `size_multiple`.
    """
    rows, columns = window.rows, window.columns
    size, origin = (rows.stop - rows.start, columns.stop - columns.start), (rows.start, columns.start)
    for side, image in (("infrared", ir), ("visible", vis)):
        if image.shape != size:
            raise ValueError(
                f"the window's {side} array is {image.shape}, expected {size}: its rows and columns "
                "with the halo"
            )
    multiple, device = model.config.size_multiple, next(model.parameters()).device
    if any(start % multiple for start in origin):
        raise ValueError(
            f"the window's array begins at row {origin[0]} and column {origin[1]}, expected multiples of "
            f"{multiple}: take the windows of scene_windows"
        )
    maps = [torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device) for image in (ir, vis)]
    with replaying(model, statistics):
        fused = fuse_maps(
            model, *maps, pair_ids=[pair_id], seed=seed, precision=precision, origins=[origin]
        )
    core: Float = core_of(fused, window)[0, 0].cpu().numpy()
    return core


def fuse_scene(
    model: DMNet,
    pair: PreparedPair,
    *,
    window: int = 1024,
    pair_id: str = "",
    seed: int = 0,
    precision: str = "fp32",
) -> Float:
    """Fuse a pair in memory: whole where it fits one window, else window by window.

    Args:
        model: in eval mode.
        pair: the scene.
        window: side of a window without its halo, in pixels; a multiple of the network's `size_multiple`.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.

    Returns:
        The fused luminance, (H, W) in [0, 1].
    """
    height, width = pair.ir.shape
    if max(height, width) <= window:
        return fuse_prepared(model, [pair], pair_ids=[pair_id], seed=seed, precision=precision)[0]
    samples = plan_samples(model.config, shrink(pair.ir), shrink(pair.vis), height, width)
    images = [(array_of(pair.ir, each.window), array_of(pair.vis, each.window)) for each in samples]
    statistics = survey(model, samples, images, pair_id=pair_id, seed=seed, precision=precision)
    fused = np.empty_like(pair.ir)
    for part in scene_windows(model.config, height, width, window):
        core = fused[part.rows.first : part.rows.last, part.columns.first : part.columns.last]
        core[:] = fuse_window(
            model, array_of(pair.ir, part), array_of(pair.vis, part), part, statistics,
            pair_id=pair_id, seed=seed, precision=precision,
        )  # fmt: skip
    return fused
