"""Arrays in, arrays out."""

import numpy as np
import pytest
import torch

from dmnet_core.checkpoint import load_checkpoint, save_checkpoint
from dmnet_core.color import rgb_to_chroma, rgb_to_y, to_rgb
from dmnet_core.inference import fuse, fuse_and_score, fuse_prepared
from dmnet_core.levels import from_levels, to_levels
from dmnet_core.metrics import METRICS, fusion_metrics
from dmnet_core.model import DMNet
from dmnet_core.noise import pair_key, position_noise
from dmnet_core.prepare import prepare_pair
from dmnet_core.ranges import from_unit
from tests.core.test_model import TINY


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DMNet(TINY).eval()


def random_image(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 31), (33, 64)])
def test_any_size_from_8_by_8_comes_back_the_same(model, height, width):
    fused = fuse(model, random_image(height, width), random_image(height, width, 3, seed=1))
    assert fused.shape == (height, width, 3)
    assert fused.dtype == np.uint8


def test_a_grey_visible_image_gives_a_grey_result(model):
    grey = np.repeat(random_image(16, 16, 1), 3, axis=2)
    assert fuse(model, random_image(16, 16), grey).shape == (16, 16)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_output_types_agree(model, dtype):
    ir, vis = random_image(16, 16), random_image(16, 16, seed=1)
    scale = {"uint16": 257.0, "float32": 1 / 255}[dtype]
    other = fuse(model, ir, vis, output_dtype=dtype)
    # rounding to 8 bits: half a grey level
    np.testing.assert_allclose(other / scale, fuse(model, ir, vis), atol=0.51)


def test_the_same_pair_and_seed_give_the_same_pixels(model):
    ir, vis = random_image(16, 24), random_image(16, 24, seed=1)
    assert (fuse(model, ir, vis, pair_id="a") == fuse(model, ir, vis, pair_id="a")).all()


def test_scoring_with_the_fusion_gives_the_pixels_and_the_metrics_of_an_eight_bit_result(model):
    # sides that are no multiples of the network's, so that its padding must be cut off before
    images = [(random_image(33, 50, seed=n), random_image(33, 50, 3, seed=n + 9)) for n in (0, 1)]
    pairs = [prepare_pair(ir, vis) for ir, vis in images]
    options = {"pair_ids": ["a", "b"], "seed": 3}
    fused, metrics = fuse_and_score(model, pairs, **options)
    for image, alone in zip(fused, fuse_prepared(model, pairs, **options), strict=True):
        np.testing.assert_array_equal(image, alone)
    assert tuple(metrics) == METRICS
    sides = [[to_levels(getattr(pair, side)) for pair in pairs] for side in ("ir", "vis")]
    stored = [from_unit(image, "uint8") for image in fused]
    expected = fusion_metrics(
        *(torch.from_numpy(np.stack(images)).float()[:, None] for images in (*sides, stored))
    )
    for name in METRICS:
        assert torch.equal(metrics[name], expected[name]), name


def test_luminance_one_is_grey_level_255():
    assert to_levels(torch.tensor([0.0, 0.2, 1.0])).tolist() == [0.0, 51.0, 255.0]
    levels = np.arange(256, dtype=np.float32)
    assert from_levels(levels).dtype == np.float32
    np.testing.assert_array_equal(np.rint(to_levels(from_levels(levels))), levels)


def test_luminance_and_chroma_make_the_colour_again():
    rgb = random_image(8, 8, 3).astype(np.float32) / 255
    y = rgb_to_y(rgb)
    np.testing.assert_allclose(to_rgb(y, rgb_to_chroma(rgb, y)), rgb, atol=1e-6)


def test_noise_depends_on_absolute_position_only():
    key = pair_key("a/b", 0)
    whole = position_noise(key, (5, 50), 40, 50)
    part = position_noise(key, (5, 50), 20, 10, y0=13, x0=31)
    assert torch.equal(whole[:, :, 13:33, 31:41], part)


def test_noise_is_standard_normal_and_independent():
    noise = position_noise(pair_key("a", 1), (5, 50, 100), 256, 256).double()
    # 65536 samples a plane: five standard errors
    assert noise.mean(dim=(2, 3)).abs().max() < 5 / 256
    assert (noise.var(dim=(2, 3)) - 1).abs().max() < 5 * (2**0.5) / 256
    planes = noise.flatten(2).flatten(0, 1)
    assert (torch.corrcoef(planes) - torch.eye(6)).abs().max() < 5 / 256
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean(dim=(2, 3))
    assert neighbours.abs().max() < 5 / 256
    other = position_noise(pair_key("b", 1), (5, 50, 100), 256, 256).double()
    assert (noise * other).mean().abs() < 5 / 256


def test_from_unit_rounds():
    assert from_unit(np.array([0, 0.5, 1], np.float32), "uint8").tolist() == [0, 128, 255]


def test_a_checkpoint_brings_back_network_and_card(model, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(save_checkpoint(model, {"steps": "3"}))
    checkpoint = load_checkpoint(path)
    assert checkpoint.card == {"steps": "3"}
    assert checkpoint.model.config == TINY
    ir, vis = random_image(16, 16), random_image(16, 16, seed=1)
    assert (fuse(checkpoint.model, ir, vis) == fuse(model, ir, vis)).all()


def test_a_pickle_is_refused_unopened(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no DMNet checkpoint"):
        load_checkpoint(path)
