"""The step of an evaluation, without Ray."""

import json

import numpy as np
import pytest

from cluster.evaluating.scoring import Method, score_pair
from cluster.fusing.steps.read import Opening
from cluster.fusing.steps.score import finish_scene
from cluster.storage import fused_store, objects
from cluster.storage.scene_store import survey_url
from dmnet_core.metrics import METRICS
from dmnet_core.prepare import Reading
from tests.cluster.scenes import score_scene
from tests.cluster.test_pair import png, put_row

RNG = np.random.default_rng(0)


@pytest.fixture
def scene_of_counts(tmp_path):
    """An output with one scene of 16-bit noise, whose survey sees means of it, and the scene's rows."""
    ir = (22_500 + RNG.integers(0, 4000, (48, 1100))).astype(np.uint16)
    vis = RNG.integers(0, 256, (48, 1100), dtype=np.uint8)
    row = put_row(tmp_path, png(ir), png(vis), window=0)
    scene, options = score_scene(row, Opening(max_pixels=10**5, window=192, halo=32), tmp_path)
    sums = {"valid_share": 1.0, "read_bytes": 0, "written_bytes": 0, "seconds": 0.0}
    finished = finish_scene(scene | sums, **options)
    assert finished["status"] == "fused", finished["detail"]
    assert 22_500 < finished["ir_low"] - 300  # a thousandth of the pixels lies below 22,504
    return tmp_path, row, finished


def test_a_fused_image_is_scored_on_the_grid_that_it_was_fused_on(tmp_path):
    ir = RNG.integers(0, 256, (60, 80), dtype=np.uint8)
    vis = RNG.integers(0, 256, (120, 160), dtype=np.uint8)
    objects.put_bytes(f"{tmp_path}/fused.png", png(vis))
    locations = {"ours": f"{tmp_path}/fused.png", "average": ""}
    row = put_row(tmp_path, png(ir), png(vis), set="", locations=json.dumps(locations))
    methods = (Method("ours", "images", str(tmp_path)), Method("average", "reference", ""))
    options = {"methods": methods, "stretch": "none", "reading": Reading(), "max_pixels": 10**5}
    for columns, allowed in (({}, True), ({"ir_to_vis": "2 0 0.5 0 2 0.5 0 0 1"}, False)):
        for scores in score_pair(row | columns, resample=allowed, **options):
            assert (scores["reason"], scores["height"], scores["width"]) == ("", 120, 160)
            assert np.isfinite(scores["VIF"])
    for scores in score_pair(row, **options):
        assert scores["reason"] == "size_mismatch" and scores["detail"].startswith("source: infrared is")


def test_a_scene_has_the_scores_of_the_output_that_fused_it(scene_of_counts):
    output, row, finished = scene_of_counts
    methods = (Method("ours", "store", f"{output}/fused.zarr"),)
    row |= {"set": "", "locations": json.dumps({"ours": "a"})}
    options = {"methods": methods, "stretch": "none", "max_pixels": 10**6}
    (scores,) = score_pair(row, reading=Reading(), **options)
    assert scores["reason"] == "", scores["detail"]
    for name in METRICS:
        assert scores[name] == pytest.approx(finished[name], rel=1e-6), name
    # by the pixels' own percentiles, the infrared image is another one
    (others,) = score_pair(row, reading=Reading("percentile"), **options)
    assert others["MI"] != pytest.approx(finished["MI"], rel=1e-4)
    # a survey of other ranges than the stored image's is no longer that of the image
    assert objects.exists(survey_url(f"{output}/statistics", "a"))
    of_frame = {"ir_range": [22_500.0, 26_499.0], "vis_range": [0.0, 255.0]}
    fused_store.create_store(f"{output}/fused.zarr/a", of_frame)
    (by_pixels,) = score_pair(row, reading=Reading(), **options)
    assert by_pixels["MI"] == pytest.approx(others["MI"], rel=1e-9)
