"""Random crops and tones of training pairs."""

import numpy as np
import pytest
import torch

from dmnet_core.augment import random_crop, vary_tones


def test_crops_of_both_sides_are_the_same_place_turned_the_same_way():
    random = np.random.default_rng(0)
    image = torch.rand(40, 60)
    for _ in range(20):
        ir, vis = random_crop(image, image * 0.5, 32, random, tones=False)
        assert ir.shape == (1, 32, 32)
        torch.testing.assert_close(vis, ir * 0.5)


def test_a_side_longer_than_the_image_repeats_its_border():
    image = torch.rand(20, 30)
    ir, _ = random_crop(image, image, 64, np.random.default_rng(0), tones=False)
    assert ir.shape == (1, 64, 64)
    assert set(ir.unique().tolist()) <= set(image.unique().tolist())


def test_tones_change_some_images_and_keep_their_order_and_range():
    random = np.random.default_rng(0)
    image = torch.linspace(0, 1, 50)
    changed = [vary_tones(image, random) for _ in range(100)]
    assert 25 < sum(not torch.equal(new, image) for new in changed) < 75
    for new in changed:
        assert new.min() >= 0 and new.max() <= 1 and (new.diff() > -1e-6).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_crop(seed):
    image = torch.rand(50, 50)
    one, other = (
        random_crop(image, image, 32, np.random.default_rng(seed), tones=True) for _ in range(2)
    )
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
