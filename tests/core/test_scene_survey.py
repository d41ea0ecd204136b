"""What is found once for a scene, in one file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from dmnet_core.model import DMNet
from dmnet_core.reading import SceneReading, SideReading
from dmnet_core.scene_survey import SceneSurvey
from dmnet_core.statistics import Counted, recording, replaying
from tests.core.test_model import TINY

BORDER = np.tri(32, 48, dtype=bool)
READING = SceneReading(
    63, 95, 2,
    ir=SideReading((7000.0, 9500.1), 0.1 + 0.2, ((0.0, 0.0), (65535.0, 65535.0)), BORDER),
    vis=SideReading((0.0, 255.0), 1 / 3),
    colour="vis",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded():
    """A network, its inputs, their fused image and the survey."""
    torch.manual_seed(0)
    model = DMNet(TINY).eval()
    inputs = torch.rand(1, 1, 32, 48), torch.rand(1, 1, 32, 48), torch.randn(1, 3, 2, 16, 24)
    mask = torch.ones(1, 32, 48, dtype=torch.bool)
    with torch.inference_mode(), recording(model, Counted(mask, torch.ones(1))) as statistics:
        fused = model(*inputs)
    return model, inputs, fused, SceneSurvey(63, 95, 64, READING, statistics)


def test_a_stored_survey_is_the_same_and_has_one_digest(recorded):
    model, inputs, fused, survey = recorded
    data = survey.to_bytes()
    loaded = SceneSurvey.from_bytes(data)
    assert loaded.to_bytes() == data == survey.to_bytes() and loaded.digest == survey.digest
    assert (loaded.height, loaded.width, loaded.window) == (63, 95, 64)
    assert replace(loaded.reading, ir=READING.ir) == READING
    ir = loaded.reading.ir
    assert (ir.limits, ir.fill) == ((7000.0, 9500.1), 0.1 + 0.2)
    assert ir.border_limits == ((0.0, 0.0), (65535.0, 65535.0))
    np.testing.assert_array_equal(ir.border, BORDER)
    assert loaded.statistics.num_pixels == 32 * 48
    with torch.inference_mode(), replaying(model, loaded.statistics):
        assert torch.equal(model(*inputs), fused)


def test_other_content_has_another_digest(recorded):
    survey = recorded[-1]
    grey = replace(READING, colour="none")
    filled = replace(READING, vis=replace(READING.vis, fill=0.5))
    others = [replace(survey, window=128), *(replace(survey, reading=r) for r in (grey, filled))]
    assert len({each.digest for each in (survey, *others)}) == 4


def test_damaged_bytes_are_refused(recorded):
    data = recorded[-1].to_bytes()
    cuts = [data[:length] for length in (0, 7, 8, 100, 2000, len(data) - 1)]
    for damaged in (*cuts, b"no survey", b"\x02" + bytes(7) + b"{}", save({"a": torch.zeros(1)})):
        with pytest.raises(ValueError, match="bytes are no survey of a scene .* survey the scene again"):
            SceneSurvey.from_bytes(damaged)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'\\"height\\": 63', b'\\"height\\": -3', "height is -3"),
        (b'\\"window\\": 64', b'\\"window\\": []', "window is"),
        (b'\\"step\\": 2', b'\\"step\\": 3', "expected torch.bool of"),
        (b'\\"colour\\": \\"vis\\"', b'\\"colour\\": \\"red\\"', "colour is 'red'"),
        (b"0.3333333333333333", b"NaN" + b" " * 15, "fill or border value is nan"),
        (b"[[0.0, 0.0], [65535.0, 65535.0]]", b"[]" + b" " * 30, "a mask without values"),
        (b"statistics/dtb", b"statistics_dtb", "expected float32 statistics alone"),
    ],
)
def test_wrong_content_is_refused(recorded, old, new, message):
    data = recorded[-1].to_bytes()
    assert old in data
    with pytest.raises(ValueError, match=f"no survey of a scene .*{message}"):
        SceneSurvey.from_bytes(data.replace(old, new))


def test_the_file_holds_tensors_and_nothing_to_unpickle(recorded):
    tensors = load(recorded[-1].to_bytes())
    assert tensors["ir_border"].dtype == torch.bool and "vis_border" not in tensors
