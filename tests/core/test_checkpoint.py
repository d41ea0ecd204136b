"""Checkpoints: what was saved comes back, anything else is refused, the shipped one is there."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save

from dmnet_core.checkpoint import SHIPPED_WEIGHTS, load_checkpoint, save_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.model import DMNet, DMNetConfig
from tests.core.test_model import TINY


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


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


def tiny_file(*, config=None, card="{}", change=None, drop=()):
    """Return a checkpoint of the tiny network with something hostile in it."""
    torch.manual_seed(0)
    tensors = {name: value for name, value in DMNet(TINY).state_dict().items() if name not in drop}
    tensors |= change or {}
    text = json.dumps(TINY.to_dict() | (config or {}))
    return save(tensors, {"config": text, "card": card})


def file_of(header, length=None):
    """Return a safetensors file of any header, which may lie about its length."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header


FIRST = next(iter(DMNet(TINY).state_dict()))
SHAPE = DMNet(TINY).state_dict()[FIRST].shape
HOSTILE = {
    "header longer than the file": file_of(b"{}", 2**63),
    "header of four gigabytes": file_of(b"{}", 2**32),
    "header that is no JSON": file_of(b"{'a': os.system('true')}"),
    "header that is a list": file_of(b"[]"),
    "header nested deeply": file_of(b"[" * 100_000),
    "metadata of a wrong type": file_of(b'{"__metadata__": [1]}'),
    "metadata of numbers": file_of(b'{"__metadata__": {"config": 1, "card": 2}}'),
    "tensor outside the file": file_of(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    "tensor of a huge shape": file_of(
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
    ),
    "config that is no JSON": save({"a": torch.zeros(1)}, {"config": "{", "card": "{}"}),
    "config nested deeply": save({"a": torch.zeros(1)}, {"config": "[" * 100_000, "card": "{}"}),
    "config that is a list": save({"a": torch.zeros(1)}, {"config": "[]", "card": "{}"}),
    "card that is a list": tiny_file(card="[]"),
    "width as text": tiny_file(config={"dim": "16"}),
    "width as a truth value": tiny_file(config={"num_heads": True}),
    "no heads": tiny_file(config={"num_heads": 0}),
    "width of a million": tiny_file(config={"dim": 10**6, "num_heads": 1}),
    "a billion layers": tiny_file(config={"num_dtb_layers": 10**9}),
    "a billion noise steps": tiny_file(config={"num_noise_steps": 10**9}),
    "many stages": tiny_file(config={"unet_multipliers": [1] * 1000}),
    "an infinite number": tiny_file(config={"ffn_expansion": float("inf")}),
    "an unknown field": tiny_file(config={"\x1b[2J\n": 1}),
    "no noise steps": tiny_file(config={"feature_steps": []}),
    "a step's embedding of odd width": tiny_file(config={"unet_base": 9, "unet_groups": 3}),
    "a truth value as text": tiny_file(config={"anchored": "no"}),
    "parts that are no names": tiny_file(config={"without": [{}]}),
    "tensor missing": tiny_file(drop=[FIRST]),
    "tensor too many": tiny_file(change={"more\x1b[2J\n": torch.zeros(1)}),
    "tensor of another shape": tiny_file(change={FIRST: torch.zeros(7)}),
    "tensor of whole numbers": tiny_file(change={FIRST: torch.zeros(SHAPE, dtype=torch.int64)}),
    "tensor of complex numbers": tiny_file(change={FIRST: torch.zeros(SHAPE, dtype=torch.complex64)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(name):
    told = "is no DMNet checkpoint .*, expected a safetensors file written by jobs/train_dmnet.py"
    with pytest.raises(ValueError, match=told) as caught:
        load_checkpoint(HOSTILE[name])
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600


def test_the_file_that_the_hostile_ones_are_made_of_is_a_checkpoint():
    assert load_checkpoint(tiny_file()).model.config == TINY


def test_a_checkpoint_that_is_a_pickle_runs_nothing(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"model": Hostile(tmp_path / "pwned")}, path)
    for name in ("weights.pt", "weights.safetensors"):
        (tmp_path / name).write_bytes(path.read_bytes())
        with pytest.raises(ValueError, match="is no DMNet checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "pwned").exists()  # so it was hostile


@pytest.mark.parametrize(("preset", "most"), [("compact", 16e6), ("fast", 2e6)])
def test_the_shipped_weights_are_small_and_have_a_card(preset, most):
    assert SHIPPED_WEIGHTS[preset].stat().st_size <= most
    checkpoint = load_checkpoint(preset=preset)
    assert checkpoint.model.config == DMNetConfig.of_preset(preset)
    assert float(checkpoint.card["cpu_minutes"]) > 0 and checkpoint.card["training_pairs"]
    trained_on = json.loads(checkpoint.card["settings"])["index_urls"]
    assert trained_on and not any("test" in name for name in trained_on)


@pytest.mark.parametrize("preset", SHIPPED_WEIGHTS)
def test_the_shipped_weights_leave_black_black_without_a_frame(preset):
    black = np.zeros((70, 90), np.uint8)
    assert fuse(load_checkpoint(preset=preset).model, black, black).max() == 0


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
