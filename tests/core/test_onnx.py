"""The ONNX model gives the pixels that PyTorch gives."""

import numpy as np
import pytest
import torch

from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse_prepared
from dmnet_core.onnx import main, to_onnx
from dmnet_core.prepare import prepare_pair
from dmnet_core.synthetic import render_scene

onnxruntime = pytest.importorskip("onnxruntime")


def run(data, ir, vis):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (fused,) = session.run(None, {"ir": ir[None, None], "vis": vis[None, None]})
    return fused[0, 0]


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        pytest.param("fast", (96, 128), marks=pytest.mark.slow),  # without padding
        ("fast", (75, 110)),
        ("compact", (75, 110)),
    ],
)
def test_onnx_runtime_gives_the_same_pixels(preset, size):
    model = load_checkpoint(preset=preset).model
    pair = prepare_pair(*render_scene("aerial", 3, *size))
    (expected,) = fuse_prepared(model, [pair], pair_ids=[""])
    fused = run(to_onnx(model, *size), pair.ir, pair.vis)
    assert fused.shape == size
    # float32 sums in another order
    np.testing.assert_allclose(fused, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "480"], "'480' is no size, expected HEIGHTxWIDTH"),
        (["--size", "4x640"], "'4x640' is no size, expected HEIGHTxWIDTH"),
        (["--checkpoint", "gone.safetensors"], "gone.safetensors"),
    ],
)
def test_a_wrong_argument_of_the_command_is_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="^2$"):
        main([str(tmp_path / "fast.onnx"), *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "fast.onnx").exists()


def test_the_command_writes_a_model(tmp_path, capsys):
    assert main([str(tmp_path / "fast.onnx"), "--size", "64x96"]) == 0
    assert "takes ir and vis of 64x96 pixels" in capsys.readouterr().out
    flat = torch.full((64, 96), 0.5).numpy()
    assert run((tmp_path / "fast.onnx").read_bytes(), flat, flat).shape == (64, 96)
