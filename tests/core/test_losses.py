"""The losses at values that can be worked out by hand."""

import itertools

import numpy as np
import pytest
import torch

from dmnet_core.checkpoint import load_checkpoint, save_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.losses import (
    OPERATORS,
    LossWeights,
    NoiseDraw,
    StageLoss,
    gradient_loss,
    intensity_loss,
    noise_loss,
    reconstruction_loss,
)
from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.model.config import PARTS
from tests.core.test_model import TINY


def image(level, side=16):
    return torch.full((1, 1, side, side), float(level))


def test_a_perfect_reconstruction_costs_nothing():
    torch.manual_seed(0)
    picture = torch.rand(2, 1, 24, 24)
    assert reconstruction_loss(picture, picture, 5.0).item() == pytest.approx(0, abs=1e-5)


def test_the_pixelwise_maximum_has_no_intensity_loss():
    torch.manual_seed(0)
    ir, vis = torch.rand(2, 1, 1, 24, 24)
    assert intensity_loss(ir, vis, torch.maximum(ir, vis)).item() == 0
    assert intensity_loss(image(0.2), image(0.5), image(0.1)).item() == pytest.approx(0.4)


def test_a_flat_image_loses_the_stronger_gradient():
    step = image(0)
    step[..., 8:] = 1.0
    assert gradient_loss(step, image(0), step).item() == 0
    assert gradient_loss(step, image(0), image(0.5)).item() > 0.1


def test_a_directed_gradient_loss_tells_an_edge_from_its_reverse():
    step = image(0)
    step[..., 8:] = 1.0
    assert gradient_loss(step, image(0.5), 1 - step).item() == 0
    assert gradient_loss(step, image(0.5), step, directed=True).item() == 0
    # twice the step's gradient: 8 in each of two of 16 columns
    assert gradient_loss(step, image(0.5), 1 - step, directed=True).item() == pytest.approx(1.0)


@pytest.mark.parametrize("stage", [1, 2])
def test_losses_are_float32_where_the_network_runs_in_halves(stage):
    torch.manual_seed(0)
    model, (ir, vis) = DMNet(TINY), torch.rand(2, 1, 1, 32, 32)
    draw = NoiseDraw.draw(model, ir, torch.Generator().manual_seed(0))
    whole = StageLoss(model, LossWeights())(stage, ir, vis, draw)
    half = StageLoss(model, LossWeights(), bf16=True)(stage, ir, vis, draw)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(whole[name].item(), rel=0.05)
        assert value.item() != whole[name].item()


def test_the_noise_loss_is_zero_only_for_the_noise_itself():
    torch.manual_seed(0)
    noise = torch.randn(2, 2, 8, 8)
    assert noise_loss(noise, noise).item() == 0
    assert noise_loss(noise, torch.zeros_like(noise)).item() > 0.5


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_sees_edges_alone_and_has_a_slope(name):
    edges = OPERATORS[name]
    assert edges(image(0.7, 32)).abs().max().item() == pytest.approx(0, abs=1e-6)
    step = image(0.2, 32)
    step[..., 16:] = 0.8
    found = edges(step)
    assert found.shape == step.shape
    assert found[0, 0, 16, 14:18].max() > 0.05 and found[0, 0, 16, :8].max() < 1e-6
    torch.testing.assert_close(edges(2 * step), 2 * found)
    step.requires_grad_()
    edges(step).sum().backward()
    assert step.grad.isfinite().all()


def test_roberts_of_a_diagonal_step_is_its_height():
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 2:, 2:] = 1.0
    # both diagonals of the 2 x 2 pixels at the corner: one crosses the step, one does not
    assert OPERATORS["roberts"](corner)[0, 0, 1, 1].item() == 1.0
    assert OPERATORS["roberts"](corner)[0, 0, 1, 2].item() == 2.0


def test_canny_leaves_one_line_of_a_blurred_step():
    ramp = torch.linspace(-4, 4, 33).sigmoid().expand(33, 33)[None, None]
    assert (OPERATORS["canny"](ramp)[0, 0, 16] > 0).sum() <= 2
    assert (OPERATORS["sobel"](ramp)[0, 0, 16] > 0).sum() > 20


PARTS_LEFT_OUT = [parts for k in range(6) for parts in itertools.combinations(PARTS, k)]


@pytest.mark.parametrize("without", PARTS_LEFT_OUT, ids="-".join)
def test_every_ablation_trains_a_step_of_both_stages_and_fuses(without):
    torch.manual_seed(0)
    config = DMNetConfig.from_dict(TINY.to_dict() | {"without": without})
    model = DMNet(config)
    loss = StageLoss(model, LossWeights())
    ir, vis = torch.rand(2, 2, 1, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    reached = set()
    for stage in (1, 2):
        parts = loss(stage, ir, vis, NoiseDraw.draw(model, ir, torch.Generator().manual_seed(stage)))
        assert ("L_dm" in parts) == ("dm" not in without)
        parts["total"].backward()
        reached |= {name for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    assert reached == {name for name, _ in model.named_parameters()}
    stored = load_checkpoint(save_checkpoint(model, {}))
    assert stored.model.config.without == tuple(sorted(without))
    pair = np.random.default_rng(0).integers(0, 256, (2, 40, 50), dtype=np.uint8)
    assert fuse(stored.model, *pair).shape == (40, 50)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="expected parts of dtb, dib, dm, csab"):
        DMNetConfig.from_dict(TINY.to_dict() | {"without": ["unet"]})


def test_the_total_is_the_paper_s_sum():
    torch.manual_seed(0)
    model = DMNet(TINY)
    weights = LossWeights(mu=2.0, lambda1=3.0, lambda2=7.0)
    ir, vis = torch.rand(2, 1, 1, 32, 32)
    for stage, expected in (
        (1, lambda parts: parts["L_vi"] + 3 * parts["L_ir"] + parts["L_dm"]),
        (2, lambda parts: parts["L_int"] + 7 * parts["L_gd"] + parts["L_dm"]),
    ):
        draw = NoiseDraw.draw(model, ir, torch.Generator().manual_seed(0))
        parts = StageLoss(model, weights)(stage, ir, vis, draw)
        torch.testing.assert_close(parts["total"], expected(parts))
