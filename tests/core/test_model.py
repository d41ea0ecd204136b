"""The network's blocks: shapes and defining properties."""

import pytest
import torch

from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.model.csab import CSAB, mixed_pool
from dmnet_core.model.decoder import MOST_GAIN, PULL, Decoder, anchored, integrate
from dmnet_core.model.dib import CouplingLayer
from dmnet_core.model.diffusion import ForwardNoising
from dmnet_core.model.dm import DM
from dmnet_core.model.dtb import DTB
from dmnet_core.model.unet import UNet

TINY = DMNetConfig(
    dim=8,
    num_heads=2,
    num_dtb_layers=2,
    num_dib_layers=2,
    num_decoder_layers=1,
    unet_base=8,
    unet_multipliers=(1, 2, 2),
    unet_res_blocks=1,
    unet_groups=4,
    dm_stride=2,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_paper_has_386_million_parameters():
    with torch.device("meta"):
        count = sum(p.numel() for p in DMNet(DMNetConfig.paper()).parameters())
    assert count == pytest.approx(386e6, rel=0.01)


def test_compact_fits_16_megabytes_in_half_precision():
    with torch.device("meta"):
        count = sum(p.numel() for p in DMNet(DMNetConfig.compact()).parameters())
    assert 2 * count < 16e6


@pytest.mark.parametrize("block", [DTB, lambda c: CSAB(c.dim)])
def test_a_feature_block_keeps_the_map_shape(block):
    x = torch.randn(2, 8, 12, 16)
    assert block(TINY)(x).shape == x.shape


def test_the_decoder_gives_one_channel_within_zero_and_one():
    image = Decoder(TINY)(10 * torch.randn(2, 8, 12, 16))
    assert image.shape == (2, 1, 12, 16)
    assert image.min() >= 0 and image.max() <= 1


ANCHORED = DMNetConfig.from_dict(TINY.to_dict() | {"unshuffle": 2, "anchored": True})


def test_an_anchored_image_is_black_and_flat_where_both_sources_are():
    maps = 10 * torch.randn(1, 5, 24, 24)
    black, grey = torch.zeros(1, 1, 24, 24), torch.full((1, 1, 24, 24), 0.25)
    assert anchored(black, black, maps).abs().max() == 0
    half = torch.zeros(1, 1, 24, 24)
    half[..., 12:] = 1.0
    assert anchored(half, half, maps)[..., :12].abs().max() == 0  # nothing glows into black
    flat = anchored(grey, black, maps[..., :1, :1].expand_as(maps))
    torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))


def test_an_anchored_image_without_gradients_is_within_zero_and_one():
    ir, vis, maps = torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64), 5 * torch.randn(1, 5, 64, 64)
    image = anchored(ir.round(), vis.round(), maps)
    assert image.min() == 0 and image.max() == 1


def test_an_anchored_image_is_the_weighted_sum_and_its_cut_lets_gradients_pass():
    maps = torch.zeros(1, 5, 8, 8, requires_grad=True)
    ir, vis = torch.full((1, 1, 8, 8), 0.9), torch.full((1, 1, 8, 8), 0.1)
    image = anchored(ir, vis, maps)
    torch.testing.assert_close(image, torch.full_like(image, MOST_GAIN / 2))
    whole = anchored(ir, ir, maps)
    assert whole.max() == 1.0  # 1.35 before the cut
    whole.sum().backward()
    assert (maps.grad[:, 1:3] > 0).all()


def test_an_anchored_image_takes_the_stronger_weighted_gradient_and_leaves_the_level():
    ir, vis, maps = torch.zeros(1, 1, 64, 64), torch.full((1, 1, 64, 64), 0.3), torch.zeros(1, 5, 64, 64)
    ir[..., 32:], vis[..., 48:] = 0.05, 0.4  # one edge each
    maps[:, 1], maps[:, 2] = -100.0, torch.logit(torch.tensor(1 / MOST_GAIN))  # the visible image's level
    maps[:, 3], maps[:, 4] = 100.0, -100.0  # the infrared's gradient, at its largest weight
    image = anchored(ir, vis, maps)[0, 0, 32]
    share = (PULL / (4 + PULL)) ** 0.5  # of a straight edge that is the level's
    assert (image[32] - image[31]).item() == pytest.approx(0.05 * MOST_GAIN * (1 - share), rel=0.02)
    assert (image[48] - image[47]).item() == pytest.approx(0.1 * share, rel=0.05)
    assert image[[0, 16, 63]].tolist() == pytest.approx([0.3, 0.3, 0.4], abs=2e-3)


def test_the_weights_of_an_anchored_image_are_averages():
    ir, vis, maps = torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 1, 32, 32), torch.zeros(1, 5, 32, 32)
    maps[:, 1] = -100.0
    maps[:, 1, 16, 16] = 100.0  # the infrared's level counts at one pixel
    image = anchored(ir, vis, maps)
    assert image.sum().item() == pytest.approx(0.5 * MOST_GAIN, rel=0.01)
    assert image[..., 14:19, 14:19].min() > image.sum() / 200


@pytest.mark.parametrize("period", [2, 4])
def test_a_pattern_of_the_pixels_in_a_square_of_features_is_not_seen(period):
    sky, maps = torch.full((1, 1, 64, 64), 0.6), torch.zeros(1, 5, 64, 64)
    maps[:, 1] = -100.0
    maps[:, 2] = torch.randn(period, period).tile(64 // period, 64 // period)
    image = anchored(torch.zeros_like(sky), sky, maps)[..., 24:-24, 24:-24]  # far from the border
    torch.testing.assert_close(image, image.mean().expand_as(image), atol=1e-3, rtol=0)


def test_integrating_an_image_s_own_differences_gives_the_image():
    image = torch.rand(2, 1, 40, 56)
    again = integrate(image, image.diff(dim=3), image.diff(dim=2))
    torch.testing.assert_close(again, image, atol=1e-5, rtol=0)


def test_an_integrated_image_solves_the_screened_poisson_equation():
    torch.manual_seed(0)
    level = torch.rand(1, 1, 24, 24)
    dx, dy = 0.1 * torch.randn(1, 1, 24, 23), 0.1 * torch.randn(1, 1, 23, 24)
    energies, slopes = [], []
    for image in (level, integrate(level, dx, dy)):
        image = image.clone().requires_grad_()
        across, down = image.diff(dim=3) - dx, image.diff(dim=2) - dy
        energy = across.square().sum() + down.square().sum() + PULL * (image - level).square().sum()
        (slope,) = torch.autograd.grad(energy, image)
        energies.append(energy.item())
        slopes.append(slope.abs().max().item())
    assert slopes[1] < slopes[0] / 15  # at the least energy it is 0
    assert energies[1] < energies[0]


def test_a_coupling_layer_inverts():
    layer = CouplingLayer(8)
    x = torch.randn(2, 8, 16, 16)
    # a few float32 roundings of values of order one
    torch.testing.assert_close(layer.inverse(layer(x)), x, atol=1e-5, rtol=0)
    assert (layer(x) - x).abs().max() > 1e-3


def test_noising_keeps_the_variance():
    noising = ForwardNoising(1000)
    z_0, noise = torch.randn(4, 2, 128, 128), torch.randn(4, 2, 128, 128)
    z_t = noising(z_0, torch.tensor([5, 50, 100, 999]), noise)
    # 32768 samples an image: the variance's standard error is 0.008
    torch.testing.assert_close(z_t.var(dim=(1, 2, 3)), torch.ones(4), atol=0.04, rtol=0)


def test_the_noise_schedule_is_ddpm_s():
    beta = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    alpha_bar = ForwardNoising(1000).alpha_bar
    assert alpha_bar[0].item() == pytest.approx(1 - 1e-4, rel=1e-6)
    assert alpha_bar[999].item() == pytest.approx(torch.log1p(-beta).sum().exp().item(), rel=1e-5)


def test_the_unet_gives_a_feature_map_a_stage_and_noise_of_the_input_s_shape():
    unet = UNet(TINY)
    z_t, t = torch.randn(2, 2, 16, 24), torch.tensor([5, 50])
    assert [tuple(f.shape) for f in unet.features(z_t, t)] == [
        (2, 16, 4, 6),
        (2, 16, 8, 12),
        (2, 8, 16, 24),
    ]
    assert unet(z_t, t).shape == z_t.shape


def test_the_latent_map_has_the_image_s_size():
    z_0 = torch.randn(2, 2, 16, 24)
    assert DM(TINY)(z_0, torch.randn(2, 3, 2, 16, 24)).shape == (2, 8, 32, 48)


def test_mixed_pooling_starts_half_way_between_average_and_maximum():
    pooled = mixed_pool(torch.tensor(1.0), torch.tensor(3.0), torch.tensor(0.0))
    assert pooled.item() == 2.0


@pytest.mark.parametrize("config", [TINY, ANCHORED], ids=["image", "anchored"])
def test_gradients_reach_every_parameter(config):
    torch.manual_seed(2)  # with others both rectifiers of CSAB's two hidden units are off
    model = DMNet(config)
    ir, vis = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    noise = torch.randn(2, *model.noise_shape(32, 32))
    predicted = model.predict_noise(ir, vis, torch.tensor([5, 700]), noise[:, 0])
    (model(ir, vis, noise).square().mean() + predicted.square().mean()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_stage_one_trains_the_autoencoder_and_leaves_dm_alone():
    model = DMNet(TINY)
    model.reconstruct(torch.rand(1, 1, 32, 32)).mean().backward()
    assert all(p.grad is None for p in model.dm.parameters())
    assert all(p.grad is not None for p in model.dtb.parameters())


@pytest.mark.parametrize("config", [TINY, ANCHORED], ids=["image", "anchored"])
def test_a_batch_equals_one_by_one(config):
    model = DMNet(config).eval()
    ir, vis = torch.rand(3, 1, 32, 32), torch.rand(3, 1, 32, 32)
    noise = torch.randn(3, *model.noise_shape(32, 32))
    together = model(ir, vis, noise)
    singly = torch.cat([model(ir[i : i + 1], vis[i : i + 1], noise[i : i + 1]) for i in range(3)])
    # float32 sums in another order
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=0)


def test_a_size_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        DMNet(TINY).reconstruct(torch.rand(1, 1, 30, 32))


def test_a_config_survives_its_dictionary():
    assert DMNetConfig.from_dict(DMNetConfig.compact().to_dict()) == DMNetConfig.compact()
    with pytest.raises(ValueError, match="unknown fields"):
        DMNetConfig.from_dict({"dim": 8, "num_heads": 2, "depth": 3})
