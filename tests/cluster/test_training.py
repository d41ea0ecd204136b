"""The training loop on a few tiny pairs: it runs both stages, resumes, and leaves a checkpoint."""

import io

import pytest
from PIL import Image

from cluster import storage, training
from cluster.config import TrainConfig
from cluster.training import CropSampler, load_training_pairs, train_dmnet
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.model import DMNetConfig
from dmnet_core.scenes import render_scene
from tests.core.test_model import TINY


@pytest.fixture
def data(tmp_path):
    for number in range(2):
        for side, pixels in zip(("ir", "vis"), render_scene("night_road", number, 96, 128), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            storage.put_bytes(str(tmp_path / f"data/{side}/{number}.png"), buffer.getvalue())
    return str(tmp_path / "data")


def config_of(data, output, **options):
    defaults = {"max_minutes": 100.0, "crop_batches": ((64, 2),), "stage1_share": 0.0}
    return TrainConfig(data_urls=(data,), output_url=str(output), **(defaults | options))


@pytest.mark.parametrize("stage1_share", [0.0, 0.9])
def test_training_leaves_a_checkpoint_and_goes_on_from_its_snapshot(
    data, tmp_path, monkeypatch, stage1_share
):
    monkeypatch.setattr(DMNetConfig, "compact", classmethod(lambda cls: TINY))
    output = tmp_path / "out"
    first = train_dmnet(config_of(data, output, max_steps=3, stage1_share=stage1_share))
    assert first.step == 3
    again = train_dmnet(config_of(data, output, max_steps=5, stage1_share=stage1_share))
    assert again.step == 5 and again.elapsed_s > first.elapsed_s
    checkpoint = load_checkpoint(output / "dmnet.safetensors")
    assert checkpoint.card["steps"] == "5"
    assert checkpoint.card["training_pairs"] == "2"


def test_crops_of_both_sides_are_the_same_place_turned_the_same_way(data):
    pairs = [(ir, ir.clone()) for ir, _ in load_training_pairs((data,))]
    config = config_of(data, "o", crop_batches=((64, 3), (96, 1)), vary_tones=False)
    sampler = CropSampler(pairs, config, 0)
    shapes = set()
    for _ in range(20):
        ir, vis = sampler.draw()
        shapes.add(tuple(ir.shape))
        assert (ir == vis).all()
    assert shapes == {(3, 1, 64, 64), (1, 1, 96, 96)}


def test_a_loss_that_is_not_finite_stops_with_its_step(data, tmp_path, monkeypatch):
    monkeypatch.setattr(DMNetConfig, "compact", classmethod(lambda cls: TINY))
    monkeypatch.setattr(training, "gradient_loss", lambda *images: images[2].mean() * float("nan"))
    with pytest.raises(ValueError, match="training step 0: the loss is nan"):
        train_dmnet(config_of(data, tmp_path / "out", max_steps=2))


def test_a_folder_without_pairs_is_named(tmp_path):
    for side in ("ir", "vis"):
        storage.put_bytes(str(tmp_path / side / f"{side}.png"), b"x")
    with pytest.raises(ValueError, match="no names in both ir/ and vis/"):
        load_training_pairs((str(tmp_path),))
