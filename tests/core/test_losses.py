"""The losses at values that can be worked out by hand."""

import pytest
import torch

from dmnet_core.losses import gradient_loss, intensity_loss, noise_loss, reconstruction_loss


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


def test_the_noise_loss_is_zero_only_for_the_noise_itself():
    torch.manual_seed(0)
    noise = torch.randn(2, 2, 8, 8)
    assert noise_loss(noise, noise).item() == 0
    assert noise_loss(noise, torch.zeros_like(noise)).item() > 0.5
