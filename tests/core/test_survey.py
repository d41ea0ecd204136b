"""Samples and statistics of a scene that has no data in some of its parts."""

import numpy as np
import pytest
import torch

from dmnet_core import survey as survey_module
from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.survey import halo_of, most_pixels, plan_samples, survey
from tests.core.test_model import TINY

COMPACT = DMNetConfig.compact()
HEIGHT, WIDTH = 2000, 3000
RANDOM = np.random.default_rng(0)


def overview(height=160, width=240):
    """Return a scene of two brightnesses, with texture, whose left half has data."""
    columns = np.arange(width)
    ir, vis = RANDOM.normal([[[0.3]], [[0.6]]], 0.05, (2, height, width)).astype(np.float32)
    ir += np.where(columns < 20, 0.3, 0).astype(np.float32)
    valid = np.tile(columns < width // 2, (height, 1))
    return ir, vis, valid


def area(sample, shape=(160, 240)):
    """Return the pixels of an overview under a sample's core, which may be parts of pixels."""
    return tuple(
        slice(int(span.first * n / span.length), -int(-span.last * n // span.length))
        for span, n in zip((sample.window.rows, sample.window.columns), shape, strict=True)
    )


def test_samples_lie_where_there_are_data():
    ir, vis, valid = overview()
    samples = plan_samples(COMPACT, ir, vis, HEIGHT, WIDTH, valid)
    everywhere = plan_samples(COMPACT, ir, vis, HEIGHT, WIDTH)
    assert len([s for s in samples if s.weight]) == len([s for s in everywhere if s.weight]) / 2
    assert all(valid[area(sample)].any() for sample in samples)
    assert {s.window for s in samples if s.weight} <= {s.window for s in everywhere}


def test_no_survey_takes_more_pixels_than_are_foretold():
    ir, vis, _ = overview()
    sides = ((s.window.rows, s.window.columns) for s in plan_samples(COMPACT, ir, vis, 9000, 9001))
    taken = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in sides)
    assert 0.9 * most_pixels(COMPACT) < taken <= most_pixels(COMPACT)


def test_pixels_without_data_change_neither_samples_nor_weights():
    ir, vis, valid = overview()
    one, other = (
        plan_samples(
            COMPACT, np.where(valid, ir, fill), np.where(valid, vis, fill), HEIGHT, WIDTH, valid
        )
        for fill in (np.float32(0), np.float32(1))
    )
    assert one == other


def test_a_mask_that_is_true_everywhere_changes_nothing():
    ir, vis, _ = overview(300, 450)  # large enough to be reduced
    samples = plan_samples(COMPACT, ir, vis, HEIGHT, WIDTH, np.ones(ir.shape, bool))
    expected = plan_samples(COMPACT, ir, vis, HEIGHT, WIDTH)
    assert [sample.window for sample in samples] == [sample.window for sample in expected]
    # means in another order
    weights = [sample.weight for sample in expected]
    assert [sample.weight for sample in samples] == pytest.approx(weights, abs=1e-5)


def test_weights_give_the_samples_the_brightness_of_the_pixels_with_data():
    ir, vis, valid = overview()
    samples = [s for s in plan_samples(COMPACT, ir, vis, HEIGHT, WIDTH, valid) if s.weight]
    means = [ir[area(sample)][valid[area(sample)]].mean() for sample in samples]
    spans = [(sample.window.rows, sample.window.columns) for sample in samples]
    sizes = [(rows.last - rows.first) * (columns.last - columns.first) for rows, columns in spans]
    plain = np.average(means, weights=sizes)
    weights = [size * sample.weight for size, sample in zip(sizes, samples, strict=True)]
    weighted = np.average(means, weights=weights)
    assert abs(weighted - ir[valid].mean()) < 0.2 * abs(plain - ir[valid].mean())


@pytest.mark.parametrize("place", [(0, 0), (100, 33), (159, 239)])
def test_one_overview_pixel_with_data_has_samples(place):
    ir, vis, _ = overview()
    valid = np.zeros(ir.shape, bool)
    valid[place] = True
    samples = plan_samples(COMPACT, ir, vis, 40_000, 60_000, valid)
    assert samples and any(sample.weight for sample in samples)
    for sample in samples:
        assert np.isfinite(sample.weight) and valid[area(sample)].any()


@pytest.fixture(scope="module")
def scene():
    """A tiny network, samples of a scene of 200 x 300 pixels and their images."""
    torch.manual_seed(0)
    model = DMNet(TINY).eval()
    ir, vis = RANDOM.random((2, 200, 300), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey_module, "NUM_SAMPLES", 2)
        patch.setattr(survey_module, "most_pixels", lambda _: 0)
        samples = plan_samples(TINY, ir, vis, 200, 300)
    spans = [(sample.window.rows, sample.window.columns) for sample in samples]
    at = [(slice(y.start, y.stop), slice(x.start, x.stop)) for y, x in spans]
    return model, samples, at, [(ir[part], vis[part]) for part in at]


def test_only_pixels_with_data_count(scene):
    model, samples, at, images = scene
    everywhere = survey(model, samples, images)
    whole = np.ones((200, 300), bool)
    masked = survey(model, samples, images, masks=[whole[part] for part in at])
    assert masked.num_pixels == everywhere.num_pixels
    for name, tensor in everywhere.tensors.items():
        assert torch.equal(masked.tensors[name], tensor), name
    # without the last sample's data the statistics are those of the others
    valid = [None] * (len(at) - 1) + [np.zeros_like(whole[at[-1]])]
    masked = survey(model, samples, images, masks=valid)
    others = survey(model, samples[:-1], images[:-1])
    assert masked.num_pixels == others.num_pixels < everywhere.num_pixels
    for name, tensor in others.tensors.items():
        torch.testing.assert_close(masked.tensors[name], tensor, msg=name)


@pytest.mark.parametrize("count", [0, 1])
def test_a_survey_of_few_pixels_with_data_has_finite_statistics(scene, count):
    model, samples, at, images = scene
    masks = [np.zeros(image.shape, bool) for image, _ in images]
    row = samples[-1].window.rows.first - samples[-1].window.rows.start + 1
    column = samples[-1].window.columns.first - samples[-1].window.columns.start + 1
    masks[-1][row, column] = count > 0
    statistics = survey(model, samples, images, masks=masks)
    assert samples[-1].weight == 0 and halo_of(TINY) == 32
    assert (statistics.num_pixels == 1) == (count == 1)
    assert all(tensor.isfinite().all() for tensor in statistics.tensors.values())
