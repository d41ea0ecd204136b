"""The further terms of the loss and the guard at values that can be worked out by hand."""

import pytest
import torch

from cluster.training.config import TERMS as NAMES
from dmnet_core.losses import LossWeights, NoiseDraw, StageLoss, gradient_loss
from dmnet_core.metrics import sum_of_correlations_of_differences
from dmnet_core.model import DMNet
from dmnet_core.terms import TERMS, guard
from tests.core.test_model import TINY


@pytest.fixture
def pair():
    """Two unrelated pictures with coarse and fine parts, (2, 1, 48, 48) each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.nn.functional.interpolate(
        torch.rand(4, 1, 6, 6, generator=generator), 48, mode="bilinear"
    )
    return (0.8 * coarse + 0.2 * torch.rand(4, 1, 48, 48, generator=generator)).chunk(2)


def test_the_command_line_knows_every_term():
    assert NAMES == tuple(TERMS)


def test_the_sum_of_the_sources_has_no_differences_left(pair):
    ir, vis = pair
    assert TERMS["differences"](ir, vis, ir + vis).item() == pytest.approx(0, abs=3e-3)  # its floor
    fused = torch.maximum(ir, vis)
    levels = [255 * image for image in (ir, vis, fused)]
    scd = sum_of_correlations_of_differences(*levels).mean().item()  # of rounded levels
    assert TERMS["differences"](ir, vis, fused).item() == pytest.approx(2 - scd, abs=2e-3)


def test_equal_images_have_all_structure_and_edges(pair):
    image = pair[0]
    assert TERMS["structure"](image, image, image).item() == pytest.approx(0, abs=1e-5)
    # the sigmoids of Xydeas and Petrovic at a ratio and an agreement of 1; the clamped angle is 0.9 %
    assert TERMS["edges"](image, image, image).item() == pytest.approx(0.015, abs=0.004)
    flat = torch.full_like(image, 0.5)
    assert TERMS["edges"](image, image, flat).item() > 0.95
    assert TERMS["structure"](image, image, flat).item() > 1.0


def test_a_clear_sky_costs_what_it_is_changed():
    sky, ir = torch.full((1, 1, 32, 32), 0.95), torch.full((1, 1, 32, 32), 0.2)
    assert TERMS["clear"](ir, sky, sky).item() == 0
    assert TERMS["clear"](ir, sky, sky - 0.1).item() == pytest.approx(0.1, rel=0.02)
    road = torch.full_like(sky, 0.4)
    assert TERMS["clear"](ir, road, road - 0.1).item() < 1e-4


def test_only_dark_parts_cost_what_they_are_lifted():
    black, bright = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.8)
    assert TERMS["dark"](black, black, black + 0.1).item() == pytest.approx(0.1)
    assert TERMS["dark"](black, bright, bright + 0.1).item() < 1e-6
    assert TERMS["dark"](bright, bright, black).item() == 0


def test_the_guard_leaves_out_the_darker_side_s_noise_alone():
    generator = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(1, 1, 32, 32, generator=generator)
    step = torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 0.3
    sky = torch.full((1, 1, 32, 32), 0.95)
    of_noise, of_sky = guard(0.2 + noise, sky)
    assert of_noise.mean().item() < 0.35 and of_sky.min().item() > 0.95
    assert guard(0.2 + step, sky)[0][..., 15:17].min().item() > 0.95  # an edge
    assert guard(0.95 + noise, sky)[0].min().item() > 0.9  # as bright as the other side
    noisy = gradient_loss(0.2 + noise, sky, sky)
    assert gradient_loss(0.2 + noise, sky, sky, guarded=True).item() < 0.35 * noisy.item()


def test_terms_join_the_total_with_their_weights(pair):
    torch.manual_seed(0)
    ir, vis = (image[..., :32, :32] for image in pair)
    model = DMNet(TINY)
    weights = LossWeights(lambda0=0.5, lambda2=7.0, terms={"differences": 2.0, "dark": 3.0})
    draw = NoiseDraw.draw(model, ir, torch.Generator().manual_seed(0))
    parts = StageLoss(model, weights)(2, ir, vis, draw)
    expected = (
        0.5 * parts["L_int"] + 7 * parts["L_gd"] + 2 * parts["L_differences"] + 3 * parts["L_dark"]
        + parts["L_dm"]
    )  # fmt: skip
    torch.testing.assert_close(parts["total"], expected)
