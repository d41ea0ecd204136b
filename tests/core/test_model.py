"""The network's blocks: shapes and defining properties."""

import pytest
import torch

from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.model.csab import CSAB, mixed_pool
from dmnet_core.model.decoder import MOST_GAIN, Decoder, anchored, contrast
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


ANCHORED = DMNetConfig.from_dict(
    TINY.to_dict() | {"unshuffle": 2, "anchored": True, "weights_side": 3, "joint_contrast": True}
)


def test_an_anchored_image_is_black_and_flat_where_both_sources_are():
    maps = 10 * torch.randn(1, 4, 24, 24)
    black, grey = torch.zeros(1, 1, 24, 24), torch.full((1, 1, 24, 24), 0.25)
    assert anchored(black, black, maps).abs().max() == 0
    same = maps[..., :1, :1].expand_as(maps)
    assert anchored(grey, black, same).unique().numel() == 1


def test_an_anchored_image_without_gradients_is_within_zero_and_one():
    ir, vis, maps = torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64), 5 * torch.randn(1, 4, 64, 64)
    image = anchored(ir, vis, maps)
    assert image.min() == 0 and image.max() == 1


def test_an_anchored_image_is_the_weighted_sum_and_its_cut_lets_gradients_pass():
    maps = torch.zeros(1, 4, 8, 8, requires_grad=True)
    ir, vis = torch.full((1, 1, 8, 8), 0.9), torch.full((1, 1, 8, 8), 0.1)
    image = anchored(ir, vis, maps)
    torch.testing.assert_close(image, torch.full_like(image, MOST_GAIN / 2))
    whole = anchored(ir, ir, maps)
    assert whole.max() == 1.0  # 1.35 before the cut
    whole.sum().backward()
    assert (maps.grad[:, 1:3] > 0).all()


def test_the_detail_of_an_anchored_image_stays_within_the_contrast_around():
    ir, vis = torch.zeros(2, 1, 1, 32, 32)
    vis[..., 16] = 0.2
    maps = torch.zeros(1, 4, 32, 32)
    maps[:, 3] = 100.0
    lifted = anchored(ir, vis, maps) - MOST_GAIN / 2 * vis
    expected = torch.zeros(32)
    expected[13:20] = 0.2  # three pixels to each side
    torch.testing.assert_close(lifted[0, 0], expected.expand(32, 32))


def test_a_joint_contrast_is_the_geometric_mean_of_both_and_none_beside_a_flat_image():
    ir, vis, flat = torch.zeros(3, 1, 1, 9, 9)
    ir[..., 4, 4], vis[..., 4, 4] = 0.1, 0.4
    torch.testing.assert_close(contrast(ir, vis, joint=True)[..., 4, 4], torch.full((1, 1), 0.2))
    torch.testing.assert_close(contrast(ir, vis, joint=False)[..., 4, 4], torch.full((1, 1), 0.4))
    assert contrast(flat, vis, joint=True).max() == 0


def test_the_weights_of_an_anchored_image_are_means_of_squares_that_the_border_cuts():
    ir, vis, maps = torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 8, 8)
    maps[:, 1] = -100.0
    maps[:, 1, 1, 1] = 100.0  # the infrared counts at one pixel, next to a corner
    image = anchored(ir, vis, maps, weights_side=5)
    number = torch.tensor([3.0, 4, 5, 5, 5, 5, 4, 3])  # of the rows of a square within the image
    expected = 0.5 * MOST_GAIN / (number[:, None] * number)
    expected[4:], expected[:, 4:] = 0, 0
    torch.testing.assert_close(image[0, 0], expected)


def test_an_even_side_of_the_weights_squares_is_refused():
    with pytest.raises(ValueError, match="weights_side is 4, expected an odd number"):
        DMNetConfig.from_dict(TINY.to_dict() | {"weights_side": 4})


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
