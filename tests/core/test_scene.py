"""A scene by windows equals the same scene whole."""

import numpy as np
import pytest
import torch
from PIL import Image

from dmnet_core import survey as survey_module
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import finish, fuse, fuse_prepared
from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.prepare import Reading, prepare_pair
from dmnet_core.scene import array_of, fuse_scene, fuse_window, scene_windows
from dmnet_core.survey import Sample, halo_of, plan_samples, shrink, survey
from dmnet_core.window import Window
from tests.core.test_model import TINY

COMPACT = DMNetConfig.compact()


@pytest.fixture(scope="module")
def compact():
    return load_checkpoint().model


@pytest.fixture(scope="module")
def images(shared_data):
    """A part of a real pair whose sides are no multiples of anything: (201, 251)."""
    return [
        np.asarray(Image.open(shared_data / "m3fd_sample" / side / "M3FD_00471.png"))[300:501, 400:651]
        for side in ("ir", "vis")
    ]


@pytest.fixture(scope="module")
def street(images):
    return prepare_pair(*images)


@pytest.fixture(scope="module")
def whole(compact, street):
    return fuse_prepared(compact, [street], pair_ids=["a"])[0]


@pytest.fixture(scope="module")
def whole_statistics(compact, street):
    sample = Sample(Window.of_image(*street.ir.shape), 1.0)
    return survey(compact, [sample], [(street.ir, street.vis)], pair_id="a")


def by_windows(model, pair, statistics, window):
    fused = np.full_like(pair.ir, np.nan)
    for part in scene_windows(model.config, *pair.ir.shape, window):
        core = fuse_window(
            model, array_of(pair.ir, part), array_of(pair.vis, part), part, statistics, pair_id="a"
        )
        fused[part.rows.first : part.rows.last, part.columns.first : part.columns.last] = core
    return fused


def levels(one, other):
    """Return the mean and the greatest difference in grey levels."""
    difference = 255 * np.abs(one - other)
    return difference.mean(), difference.max()


def far(one, other):
    """Return the share of the pixels that differ by more than 8 grey levels."""
    return (255 * np.abs(one - other) > 8).mean()


@pytest.mark.parametrize("window", [64, 96])
def test_windows_with_the_statistics_of_the_whole_equal_the_whole(
    compact, street, whole, whole_statistics, window
):
    mean, most = levels(by_windows(compact, street, whole_statistics, window), whole)
    # what is left is the reach of the U-Net beyond the halo of 64 pixels
    assert mean < 0.05 and most < 2


@pytest.fixture
def few_samples(monkeypatch):
    """Samples as of a large scene: they neither are nor cover all of a small one."""
    monkeypatch.setattr(survey_module, "NUM_SAMPLES", 3)
    monkeypatch.setattr(survey_module, "most_pixels", lambda _: 0)


def test_a_scene_of_no_more_pixels_than_a_survey_takes_has_the_statistics_of_the_whole(
    compact, images, whole
):
    mean, most = levels(luminance_of(compact, *images, window=96), whole)
    assert mean < 0.05 and most < 2


@pytest.mark.usefixtures("few_samples")
def test_a_surveyed_scene_is_near_the_whole_and_has_no_seam(compact, images, whole):
    fused = {window: luminance_of(compact, *images, window=window) for window in (64, 128)}
    mean, _ = levels(fused[64], whole)
    assert mean < 0.7  # a bad survey is a change of tone of a few levels
    assert far(fused[64], whole) < 1e-3
    mean, most = levels(fused[64], fused[128])
    assert mean < 0.1 and most < 2
    columns, rows = [64, 128, 192], [64, 128, 192]
    for places in (rows, [1, 200]):
        assert step(fused[64], places, 0) == pytest.approx(step(whole, places, 0), rel=0.02)
    for places in (columns, [1, 250]):
        assert step(fused[64], places, 1) == pytest.approx(step(whole, places, 1), rel=0.02)


def luminance_of(model, ir, vis, **settings):
    """Return the fused luminance of a scene as floats."""
    grey = Reading(colour="none")
    return fuse_scene(model, ir, vis, pair_id="a", reading=grey, output_dtype="float32", **settings)


def step(image, places, axis):
    """Return the mean absolute step from the pixel before each place along an axis."""
    return np.abs(np.diff(image, axis=axis)).take([place - 1 for place in places], axis).mean()


def test_an_image_that_is_no_scene_is_fused_whole(compact, images):
    # 201 x 251 pixels are less than 1.25 windows of 224 x 224
    fused = fuse_scene(compact, *images, window=224, pair_id="a")
    np.testing.assert_array_equal(fused, fuse(compact, *images, pair_id="a"))


@pytest.mark.usefixtures("few_samples")
def test_a_scene_with_a_border_and_holes_is_near_the_whole_where_it_has_data(compact, images):
    ir, vis = images
    rows, columns = np.mgrid[:201, :251]
    seen = 2 * rows + columns > 150
    ir, holes = np.where(seen[..., None], ir, 0), (rows + columns < 430) & (rows + columns > 30)
    ir[150, 100] = 0  # a black pixel of the scene
    pair = prepare_pair(ir, vis, vis_valid=holes)
    whole = finish(fuse_prepared(compact, [pair], pair_ids=["a"])[0], pair)
    fused = fuse_scene(compact, ir, vis, window=96, pair_id="a", vis_valid=holes)
    assert fused.shape == (201, 251, 3) and fused.dtype == np.uint8
    both = fused[seen & holes] / 255, whole[seen & holes] / 255
    # the network sees filled pixels in the whole image, which take no part in a scene's statistics
    assert levels(*both)[0] < 3 and far(*both) < 5e-3
    # pixels without data in both images
    assert not (seen | holes).all() and not fused[~seen & ~holes].any()



@pytest.mark.parametrize(("height", "width"), [(1, 1000), (201, 251), (641, 97), (5000, 7001)])
@pytest.mark.parametrize("config", [COMPACT, TINY, DMNetConfig.paper()])
def test_windows_cover_a_scene_once_and_begin_at_multiples(config, height, width):
    count = np.zeros((height, width), np.uint8)
    for part in scene_windows(config, height, width, 512):
        assert part.rows.start % config.size_multiple == 0 == part.columns.start % config.size_multiple
        count[part.rows.first : part.rows.last, part.columns.first : part.columns.last] += 1
    assert (count == 1).all()


@pytest.mark.parametrize(("height", "width"), [(40, 1000), (201, 251), (641, 97), (5000, 7001)])
@pytest.mark.parametrize("config", [COMPACT, TINY, DMNetConfig.paper()])
def test_samples_have_one_size_after_padding_and_their_number_has_a_bound(
    config, height, width, monkeypatch
):
    monkeypatch.setattr(survey_module, "most_pixels", lambda _: 0)
    overview = np.random.default_rng(0).random((2, 20, 30), np.float32)
    samples = plan_samples(config, *overview, height, width)
    multiple, halo = config.size_multiple, halo_of(config)
    sizes = set()
    for sample in samples:
        for span in (sample.window.rows, sample.window.columns):
            assert span.start % multiple == 0
            assert span.first - span.start == (halo if span.start else 0)
        rows, columns = sample.window.rows, sample.window.columns
        sizes.add(tuple(-(-(s.stop - s.start) // multiple) for s in (rows, columns)))
    assert len(sizes) == 1
    assert len(samples) <= 64 + 6
    weights = [sample.weight for sample in samples if sample.weight]
    assert min(weights) >= 0.05 and np.mean(weights) == pytest.approx(1, abs=0.5)


def test_weights_give_the_samples_the_brightness_of_the_scene():
    # a bright border of a dark scene: half of the grid's samples lie on it, but a tenth of the pixels
    bright = np.zeros((250, 250), np.float32)
    bright[:12], bright[-12:] = 1.0, 1.0
    ir = bright + np.random.default_rng(0).normal(0, 0.01, bright.shape).astype(np.float32)
    samples = [s for s in plan_samples(COMPACT, ir, ir, 2000, 2000) if s.weight]
    parts = [array_of(np.repeat(np.repeat(ir, 8, 0), 8, 1), core(s.window)) for s in samples]
    sizes = [part.size for part in parts]
    plain = np.average([part.mean() for part in parts], weights=sizes)
    weighted = np.average(
        [part.mean() for part in parts],
        weights=[size * s.weight for size, s in zip(sizes, samples, strict=True)],
    )
    assert abs(weighted - ir.mean()) < 0.1 * abs(plain - ir.mean())


def core(window):
    """Return the window without its halo."""
    spans = [
        type(span)(length=span.length, start=span.first, stop=span.last, first=span.first, last=span.last)
        for span in (window.rows, window.columns)
    ]
    return Window(*spans)


def test_the_samples_hold_the_extremes_of_the_scene():
    ir, vis = np.full((2, 1500, 2000), 0.5, np.float32)
    ir[610:620, 1290:1300], vis[333, 777] = 1.0, 0.0
    samples = plan_samples(COMPACT, shrink(ir), shrink(vis), 1500, 2000)
    parts = [core(sample.window) for sample in samples]
    assert max(array_of(ir, part).max() for part in parts) == 1.0
    assert min(array_of(vis, part).min() for part in parts) == 0.0


def test_a_wrong_window_is_refused():
    model = DMNet(TINY).eval()
    with pytest.raises(ValueError, match="the window is 100 pixels, expected a multiple of 8"):
        scene_windows(TINY, 500, 500, 100)
    with pytest.raises(ValueError, match="the window is 100 pixels, expected a multiple of 8"):
        fuse_scene(model, *np.zeros((2, 40, 40), np.uint8), window=100)
    image = np.zeros((40, 40), np.float32)
    part = scene_windows(TINY, 200, 200, 64)[0]
    with pytest.raises(ValueError, match=r"infrared array is \(40, 40\), expected \(96, 96\)"):
        fuse_window(model, image, image, part, None)
    span = part.rows
    moved = type(span)(length=200, start=4, stop=44, first=36, last=44)
    with pytest.raises(ValueError, match="begins at row 4 and column 4, expected multiples of 8"):
        fuse_window(model, image, image, Window(moved, moved), None)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tiny_network_of_another_multiple_agrees_with_itself_over_window_sizes(precision):
    torch.manual_seed(0)
    model = DMNet(TINY).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 75, 107), np.uint8)
    one, other = (luminance_of(model, *images, window=n, precision=precision) for n in (40, 72))
    mean, most = levels(one, other)
    assert mean < 0.1 and most < 2
