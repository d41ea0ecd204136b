"""The step of an evaluation, without Ray."""

import json

import numpy as np

from cluster.evaluating.scoring import Method, score_pair
from cluster.storage import objects
from dmnet_core.prepare import Reading
from tests.cluster.test_pair import png, put_row

RNG = np.random.default_rng(0)


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
