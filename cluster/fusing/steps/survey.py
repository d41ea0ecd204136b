"""Scenes on an actor: their survey, and their windows by what it froze. No Ray here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cluster.archive.pair import OpenPair, open_pair
from cluster.archive.sources.image import SourceImage
from cluster.archive.sources.source import Window as Part
from cluster.fusing.steps.read import Opening, check_version
from cluster.fusing.steps.rows import Row, unpack_image, unpack_mask
from cluster.storage import objects
from dmnet_core.inference import finish
from dmnet_core.model import DMNet
from dmnet_core.prepare import PreparedPair, Reading
from dmnet_core.reading import OVERVIEW, SceneReading, prepare_overview, prepare_window, read_scene
from dmnet_core.scene import core_pair, fuse_window
from dmnet_core.scene_survey import SceneSurvey
from dmnet_core.survey import plan_samples, survey
from dmnet_core.window import Window, window_at


def survey_id(row: Row) -> str:
    """Return what tells the survey of a window's row from an earlier one of the same scene."""
    return f"{row['recorded_at']:.3f}"


@lru_cache(maxsize=2)
def load_survey(url: str, survey_id: str) -> SceneSurvey:
    """Return the survey of a scene; the last ones are kept for the next windows."""
    return SceneSurvey.from_bytes(objects.read_bytes(url))


def survey_scene(
    model: DMNet, row: Row, opening: Opening, reading: Reading, *, seed: int, precision: str
) -> SceneSurvey:
    """Find the value ranges of a scene on overviews, and take the statistics of the network on samples.

    Args:
        model: in eval mode.
        row: of `read_window`, with the task `scene`.
        opening: how the pair is opened.
        reading: how source values are mapped to [0, 1], and whose colour is kept.
        seed: seed of the noise.
        precision: precision of the network: fp32, bf16 or fp16.

    Raises:
        BadPair: the pair can't be read, or was replaced meanwhile.
        ValueError: its pixels can't be fused; see `dmnet_core.prepare.prepare_pair`.
    """
    with open_pair(row, **opening.options) as pair:
        check_version(pair, row)
        height, width = pair.grid.height, pair.grid.width
        ir, vis = pair.overview(OVERVIEW)
        frozen = read_scene(
            ir.pixels, vis.pixels, reading, ir_valid=ir.valid, vis_valid=vis.valid, height=height,
            width=width,
        )  # fmt: skip
        small = prepare_overview(ir.pixels, vis.pixels, frozen, ir_valid=ir.valid, vis_valid=vis.valid)
        samples = plan_samples(model.config, small.ir, small.vis, height, width, small.valid)
        parts = [read_part(pair, frozen, sample.window) for sample in samples]
    statistics = survey(
        model,
        samples,
        [(part.ir, part.vis) for part in parts],
        masks=[part.valid for part in parts],
        pair_id=str(row["pair_id"]),
        seed=seed,
        precision=precision,
    )
    return SceneSurvey(height, width, opening.window, frozen, statistics)


def fuse_part(
    model: DMNet, row: Row, found: SceneSurvey, *, halo: int, output_dtype: str, seed: int, precision: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Fuse one window of a scene.

    Args:
        model: in eval mode, the network of the survey.
        row: of `read_window`, with the task `window`.
        found: the survey of the scene.
        halo: pixels around the window that the row holds.
        output_dtype: type of the stored pixels: uint8, uint16 or float32.
        seed: seed of the noise.
        precision: precision of the network: fp32, bf16 or fp16.

    Returns:
        (h, w) or (h, w, 3) in the output type without the halo, and (h, w), False where a source has no
        data.
    """
    window = window_at(found.height, found.width, found.window, halo, row["window"] - 1)
    ir, vis = (
        SourceImage(unpack_image(row, side), unpack_mask(row, f"{side}_valid")) for side in ("ir", "vis")
    )
    pair = prepare_part(found.reading, ir, vis, window)
    core = core_pair(pair, window)
    if not _has_data(core):
        luminance = np.zeros(core.ir.shape, np.float32)
    else:
        luminance = fuse_window(
            model, pair.ir, pair.vis, window, found.statistics, pair_id=str(row["pair_id"]), seed=seed,
            precision=precision,
        )  # fmt: skip
    valid = np.ones(core.ir.shape, bool) if core.valid is None else core.valid
    return finish(luminance, core, output_dtype), valid


def _has_data(pair: PreparedPair) -> bool:
    """Return whether a side of a pair has data anywhere."""
    masks = (pair.ir_valid, pair.vis_valid)
    return any(mask is None or bool(mask.any()) for mask in masks)


def read_part(pair: OpenPair, reading: SceneReading, window: Window) -> PreparedPair:
    """Return a window of a scene, with its halo, as the network takes it; errors of `OpenPair.read`."""
    rows, columns = window.rows, window.columns
    part = Part(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
    images = pair.read(part)
    return prepare_part(reading, images.ir, images.vis, window)


def prepare_part(
    reading: SceneReading, ir: SourceImage, vis: SourceImage, window: Window
) -> PreparedPair:
    """Return the pixels of a window, with its halo, as the network takes them."""
    return prepare_window(
        ir.pixels, vis.pixels, reading, window.rows.start, window.columns.start, ir_valid=ir.valid,
        vis_valid=vis.valid,
    )  # fmt: skip
