"""Scenes on an actor: their survey, and their windows by what it froze. No Ray here."""

from __future__ import annotations

from functools import lru_cache, partial

from cluster.archive.pair import OpenPair, open_pair
from cluster.archive.reasons import BadImage
from cluster.archive.sources.image import SourceImage
from cluster.archive.sources.source import digest_of
from cluster.fusing.steps.read import Opening, check_version, part_of
from cluster.fusing.steps.rows import Row, unpack_image, unpack_mask
from cluster.storage import objects
from cluster.storage.urls import redact_url
from dmnet_core import scene
from dmnet_core.model import DMNet
from dmnet_core.prepare import PreparedPair, Reading
from dmnet_core.reading import OVERVIEW, SceneReading, prepare_window
from dmnet_core.scene_survey import SceneSurvey
from dmnet_core.window import Window, window_at


def survey_id(row: Row) -> str:
    """Return what tells the survey of a window's row from an earlier one of the same scene."""
    return f"{row['recorded_at']:.3f}"


@lru_cache(maxsize=2)
def load_survey(url: str, digest: str) -> SceneSurvey:
    """Return the survey of a scene; the last ones are kept for the next windows.

    Args:
        url: of the survey.
        digest: of its bytes when it was put, as the ledger holds it.

    Raises:
        BadImage: it is gone, or another one is there.
        StorageError, ValueError: it can't be read.
    """
    try:
        data = objects.read_bytes(url)
    except FileNotFoundError as error:
        raise BadImage(
            "failed",
            f"the scene's survey {redact_url(url)!r} is gone, expected what this job put there: run the "
            "same command again, which surveys the scene again",
        ) from error
    if digest_of(data) != digest:
        raise BadImage(
            "failed",
            f"the scene's survey {redact_url(url)!r} is not the one that this job put there, expected "
            "that: run the same command again, which surveys the scene again",
        )
    return SceneSurvey.from_bytes(data)


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
        ir, vis = pair.overview(OVERVIEW)
        return scene.survey_scene(
            model, ir.pixels, vis.pixels, partial(read_part, pair),
            height=pair.grid.height, width=pair.grid.width, window=opening.window,
            pair_id=str(row["pair_id"]), seed=seed, reading=reading, precision=precision,
            ir_valid=ir.valid, vis_valid=vis.valid,
        )  # fmt: skip


def prepare_row(row: Row, found: SceneSurvey, halo: int) -> tuple[PreparedPair, Window]:
    """Return the pixels of a row of `read_window` as the network takes them, and what they cover.

    Args:
        row: with the task `window`.
        found: the survey of the scene.
        halo: pixels around the window that the row holds.
    """
    window = window_at(found.height, found.width, found.window, halo, row["window"] - 1)
    ir, vis = (
        SourceImage(unpack_image(row, side), unpack_mask(row, f"{side}_valid")) for side in ("ir", "vis")
    )
    return _prepared(found.reading, ir, vis, window), window


def read_part(pair: OpenPair, reading: SceneReading, window: Window) -> PreparedPair:
    """Return a window of a scene, with its halo, as the network takes it; errors of `OpenPair.read`."""
    images = pair.read(part_of(window))
    return _prepared(reading, images.ir, images.vis, window)


def _prepared(
    reading: SceneReading, ir: SourceImage, vis: SourceImage, window: Window
) -> PreparedPair:
    return prepare_window(
        ir.pixels, vis.pixels, reading, window.rows.start, window.columns.start, ir_valid=ir.valid,
        vis_valid=vis.valid,
    )  # fmt: skip
