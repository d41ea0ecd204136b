"""Fusing an image larger than memory window by window, without a seam.

Flow: `read_scene` of dmnet_core.reading finds on overviews how source values are read, and `survey` of
dmnet_core.survey takes the scene's statistics from samples, each once; a `SceneSurvey` holds both.
`fuse_window` then fuses each window of `scene_windows` by them. Windows do not depend on each other, and
agree where they meet: a window is read with a halo, which is cut off after the network, its origin is a
multiple of the network's size multiple, and noise counts from the scene's origin. `fuse_scene` does all
of it in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmnet_core.inference import finish, fuse_maps, fuse_prepared
from dmnet_core.metrics.windows import core_of
from dmnet_core.model import DMNet
from dmnet_core.model.config import DMNetConfig
from dmnet_core.prepare import DEFAULT, Float, PreparedPair, Reading, check_images, prepare_pair
from dmnet_core.ranges import Mask
from dmnet_core.reading import (
    SceneReading,
    overview_of,
    overview_step,
    prepare_overview,
    prepare_window,
    read_scene,
)
from dmnet_core.scene_survey import SceneSurvey
from dmnet_core.statistics import SceneStatistics, replaying
from dmnet_core.survey import halo_of, plan_samples, survey
from dmnet_core.window import Window, cut, is_scene


def check_window(config: DMNetConfig, window: int) -> None:
    """Raise ValueError where a window's side in pixels is no multiple that the network needs."""
    if window < 1 or window % config.size_multiple:
        raise ValueError(
            f"the window is {window} pixels, expected a multiple of {config.size_multiple}, which this "
            "network needs"
        )


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
    check_window(config, window)
    return list(cut(height, width, window, halo_of(config)))


def array_of(image: NDArray[Any], window: Window) -> NDArray[Any]:
    """Return the pixels of an (H, W) or (H, W, C) image in memory that a window's array covers."""
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


def survey_scene(
    model: DMNet,
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    read: Callable[[SceneReading, Window], PreparedPair],
    *,
    height: int,
    width: int,
    window: int,
    pair_id: str = "",
    seed: int = 0,
    reading: Reading = DEFAULT,
    precision: str = "fp32",
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
) -> SceneSurvey:
    """Survey a scene of which overviews are given, and single windows can be read.

    Args:
        model: in eval mode.
        ir: infrared overview, as `dmnet_core.reading.read_scene` takes it.
        vis: visible overview of the same height and width.
        read: gives a window of the scene, with its halo, by what was found on the overviews.
        height: height of the scene, in pixels.
        width: width of the scene, in pixels.
        window: side of the windows that the scene will be fused in, without their halo, in pixels.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        reading: how source values are mapped to [0, 1], and whose colour is kept.
        precision: fp32, or bf16 or fp16 on CUDA.
        ir_valid: where the infrared overview has data; None where it has data everywhere.
        vis_valid: the same of the visible overview.

    Raises:
        ValueError, TypeError: those of `read_scene`.
    """
    found = read_scene(
        ir, vis, reading, ir_valid=ir_valid, vis_valid=vis_valid, height=height, width=width
    )
    small = prepare_overview(ir, vis, found, ir_valid=ir_valid, vis_valid=vis_valid)
    samples = plan_samples(model.config, small.ir, small.vis, height, width, small.valid)
    pairs = [read(found, sample.window) for sample in samples]
    statistics = survey(
        model, samples, [(pair.ir, pair.vis) for pair in pairs],
        pair_id=pair_id, seed=seed, precision=precision, masks=[pair.valid for pair in pairs],
    )  # fmt: skip
    return SceneSurvey(height, width, window, found, statistics)


def fuse_part(
    model: DMNet,
    pair: PreparedPair,
    window: Window,
    statistics: SceneStatistics,
    *,
    output_dtype: str = "uint8",
    pair_id: str = "",
    seed: int = 0,
    precision: str = "fp32",
) -> tuple[NDArray[np.generic], Mask]:
    """Fuse one window of a scene, its colour included; one without any data costs nothing.

    Args:
        model: as in `fuse_window`, and so are window, statistics, pair_id, seed and precision.
        pair: the window with its halo, as of `dmnet_core.reading.prepare_window`.
        window: what the pair covers of the scene.
        statistics: of the scene.
        output_dtype: uint8, uint16 or float32.
        pair_id: the name of the pair.
        seed: seed of the noise.
        precision: precision of the network.

    Returns:
        The window without its halo, (h, w) or (h, w, 3) in the output type, and (h, w), True where both
        images have data.
    """
    core = pair.cropped(*(
        slice(span.first - span.start, span.last - span.start) for span in (window.rows, window.columns)
    ))
    luminance = np.zeros(core.ir.shape, np.float32)
    if any(mask is None or mask.any() for mask in (core.ir_valid, core.vis_valid)):
        luminance = fuse_window(
            model, pair.ir, pair.vis, window, statistics,
            pair_id=pair_id, seed=seed, precision=precision,
        )  # fmt: skip
    valid = np.ones(core.ir.shape, bool) if core.valid is None else core.valid
    return finish(luminance, core, output_dtype), valid


def fuse_scene(
    model: DMNet,
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    *,
    window: int = 1024,
    pair_id: str = "",
    seed: int = 0,
    reading: Reading = DEFAULT,
    output_dtype: str = "uint8",
    precision: str = "fp32",
    ir_valid: Mask | None = None,
    vis_valid: Mask | None = None,
) -> NDArray[np.generic]:
    """Fuse a pair in memory: a frame whole, as `fuse` does, and a scene window by window.

    Args:
        model: in eval mode.
        ir: infrared source values, as `prepare_pair` takes them.
        vis: visible source values of the same height and width.
        window: side of a window without its halo, in pixels; a multiple of the network's `size_multiple`.
        pair_id: the name of the pair, which keys its noise.
        seed: seed of the noise.
        reading: how source values are mapped to [0, 1], and whose colour is kept.
        output_dtype: uint8, uint16 or float32.
        precision: fp32, or bf16 or fp16 on CUDA.
        ir_valid: (H, W), False where the infrared image has no data; None where it has data everywhere.
        vis_valid: the same of the visible image.

    Returns:
        (H, W), or (H, W, 3) where the image that gives it has colour, in the output type.

    Raises:
        ValueError: window is no such multiple, or an error of `prepare_pair`.
        TypeError: an image is no NumPy array.
    """
    check_window(model.config, window)
    check_images(ir, vis)
    height, width = ir.shape[:2]
    how: dict[str, Any] = {"seed": seed, "precision": precision}
    if not is_scene(height, width, window):
        whole = prepare_pair(ir, vis, reading, ir_valid=ir_valid, vis_valid=vis_valid)
        fused = fuse_prepared(model, [whole], pair_ids=[pair_id], **how)
        return finish(fused[0], whole, output_dtype)
    how |= {"pair_id": pair_id}

    def read(found: SceneReading, part: Window) -> PreparedPair:
        return _prepared(ir, vis, found, part, ir_valid, vis_valid)

    step = overview_step(height, width)
    (ir_small, ir_seen), (vis_small, vis_seen) = (
        overview_of(image, valid, step) for image, valid in ((ir, ir_valid), (vis, vis_valid))
    )
    scene = survey_scene(
        model, ir_small, vis_small, read, height=height, width=width, window=window, reading=reading,
        ir_valid=ir_seen, vis_valid=vis_seen, **how,
    )  # fmt: skip
    return _fuse_parts(model, scene, read, output_dtype, how)


def _fuse_parts(
    model: DMNet,
    scene: SceneSurvey,
    read: Callable[[SceneReading, Window], PreparedPair],
    output_dtype: str,
    how: dict[str, Any],
) -> NDArray[np.generic]:
    """Return a scene in memory, fused window by window."""
    bands = () if scene.reading.colour == "none" else (3,)
    out = np.empty((scene.height, scene.width, *bands), output_dtype)
    for part in scene_windows(model.config, scene.height, scene.width, scene.window):
        core = part.rows.first, part.rows.last, part.columns.first, part.columns.last
        out[core[0] : core[1], core[2] : core[3]], _ = fuse_part(
            model, read(scene.reading, part), part, scene.statistics, output_dtype=output_dtype, **how
        )
    return out


def _prepared(
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    reading: SceneReading,
    window: Window,
    ir_valid: Mask | None,
    vis_valid: Mask | None,
) -> PreparedPair:
    """Return a window of a scene in memory, with its halo."""
    masks = [None if mask is None else array_of(mask, window) for mask in (ir_valid, vis_valid)]
    return prepare_window(
        array_of(ir, window), array_of(vis, window), reading, window.rows.start, window.columns.start,
        ir_valid=masks[0], vis_valid=masks[1],
    )  # fmt: skip
