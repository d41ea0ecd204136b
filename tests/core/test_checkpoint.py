"""Checkpoints: what was saved comes back, anything else is refused, the shipped one is there."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save

from dmnet_core.checkpoint import SHIPPED_WEIGHTS, load_checkpoint, save_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.model import DMNet
from tests.core.test_model import TINY


def test_a_checkpoint_comes_back_with_its_config_card_and_weights():
    torch.manual_seed(0)
    model = DMNet(TINY).eval()
    data = save_checkpoint(model, {"steps": "7"})
    checkpoint = load_checkpoint(data)
    assert checkpoint.card == {"steps": "7"}
    assert checkpoint.model.config == TINY
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert load_checkpoint(save_checkpoint(model, {"steps": "8"})).digest != checkpoint.digest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"PK\x03\x04" + b"\0" * 100,
        b"\xff" * 16,
        save({"a": torch.zeros(1)}),
        save({"a": torch.zeros(1)}, {"config": "{}", "card": "{}"}),
        save({"a": torch.zeros(1)}, {"config": json.dumps(TINY.to_dict()), "card": "{}"}),
    ],
)
def test_bytes_that_are_no_checkpoint_are_refused(data):
    with pytest.raises(ValueError, match="safetensors file written by jobs/train_dmnet.py"):
        load_checkpoint(data)


def test_the_shipped_weights_are_small_and_have_a_card():
    assert SHIPPED_WEIGHTS.stat().st_size <= 16 * 2**20
    checkpoint = load_checkpoint()
    assert float(checkpoint.card["cpu_minutes"]) >= 45
    assert "test" not in checkpoint.card["training_data"]


def test_the_shipped_weights_keep_a_hot_target_bright_and_the_visible_texture():
    ir = np.full((96, 96), 40, np.uint8)
    ir[40:56, 40:56] = 230
    vis = np.full((96, 96), 90, np.uint8)
    vis[:, ::8] = 150
    fused = fuse(load_checkpoint().model, ir, vis).astype(float)
    background = fused[8:32, 8:88]
    assert fused[44:52, 44:52].mean() > background.mean() + 60
    assert background[:, ::8].mean() > background[:, 4::8].mean() + 25


def test_the_shipped_weights_draw_no_mesh_on_flat_images():
    flat = [np.full((96, 96), level, np.uint8) for level in (60, 140)]
    fused = fuse(load_checkpoint().model, *flat, output_dtype="float32")
    inner = fused[16:-16, 16:-16] * 255
    laplacian = 4 * inner[1:-1, 1:-1] - inner[:-2, 1:-1] - inner[2:, 1:-1] - inner[1:-1, :-2]
    laplacian -= inner[1:-1, 2:]
    assert np.abs(laplacian).mean() < 1.0  # grey levels; an eye sees a mesh from about 2
