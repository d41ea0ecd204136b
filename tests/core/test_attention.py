"""The maps before and after CSAB."""

import dataclasses

import numpy as np
import pytest
import torch

from dmnet_core.attention import MAPS, csab_maps
from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.prepare import prepare_pair

CONFIG = dataclasses.replace(DMNetConfig.fast(), unet_multipliers=(1, 2))


def pair_of(height, width):
    random = np.random.default_rng(0)
    return prepare_pair(*(random.integers(0, 256, (height, width), np.uint8) for _ in range(2)))


def test_maps_have_the_size_of_the_features_without_padding_and_are_no_less_than_zero():
    torch.manual_seed(0)
    maps = csab_maps(DMNet(CONFIG).eval(), pair_of(45, 70))
    assert tuple(maps) == MAPS
    for before, after in maps.values():
        assert before.shape == after.shape == (12, 18)  # 45 / 4 and 70 / 4, rounded up
        assert (before >= 0).all() and before.any()
        assert (after <= before).all() and (after < before).any()  # both attentions are below 1


def test_attention_of_a_known_weight_scales_the_maps_by_it():
    torch.manual_seed(0)
    model = DMNet(CONFIG).eval()
    with torch.no_grad():
        for parameter in (*model.csab.channel.mlp.parameters(), *model.csab.spatial.parameters()):
            parameter.zero_()  # sigmoid(0) = 1/2 for channels, and again for pixels
    for before, after in csab_maps(model, pair_of(32, 32)).values():
        np.testing.assert_allclose(after, before / 4, rtol=1e-5)


def test_a_network_without_csab_has_no_such_maps():
    config = dataclasses.replace(CONFIG, without=("csab",))
    with pytest.raises(ValueError, match="has no CSAB"):
        csab_maps(DMNet(config).eval(), pair_of(32, 32))
