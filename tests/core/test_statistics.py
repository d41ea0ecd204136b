"""Image-wide numbers: taken by each module, recorded, stored and replayed."""

import threading

import pytest
import torch
from torch import nn

from dmnet_core.model import DMNet
from dmnet_core.model.csab import ChannelAttention
from dmnet_core.model.transformer import TransposedAttention
from dmnet_core.model.unet import GroupNorm, PixelAttention
from dmnet_core.statistics import Counted, image_wide, recording, replaying
from tests.core.test_model import TINY

MODULES = {
    "attention": lambda: TransposedAttention(8, 2),
    "pooling": lambda: ChannelAttention(8),
    "norm": lambda: GroupNorm(4, 8),
    "pixels": lambda: PixelAttention(8, 4),
}


def counted(x, mask=None):
    mask = torch.ones(len(x), *x.shape[2:], dtype=torch.bool) if mask is None else mask
    return Counted(mask, torch.ones(len(x)))


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return torch.rand(1, 1, 32, 48), torch.rand(1, 1, 32, 48), torch.randn(1, 3, 2, 16, 24)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DMNet(TINY).eval()


def record(module, x, mask=None):
    with torch.inference_mode(), recording(module, counted(x, mask)) as statistics:
        out = module(x)
    return out, statistics


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_module_that_records_or_replays_its_own_numbers_gives_what_it_always_gives(make):
    torch.manual_seed(0)
    module, x = make().eval(), torch.randn(1, 8, 12, 20)
    with torch.inference_mode():
        alone = module(x)
    recorded, statistics = record(module, x)
    with torch.inference_mode(), replaying(module, statistics):
        replayed = module(x)
    # sums in another order: a few roundings of values of order one
    torch.testing.assert_close(recorded, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(replayed, recorded, atol=0, rtol=0)


class Own(nn.Module):
    """The image-wide numbers of given maps, without the convolutions before them."""

    def forward(self, x):
        scene = image_wide(self)
        scene.key(x), scene.value(x)
        return scene.mean(x), scene.square(x), scene.maximum(x), scene.products(x)


def test_a_halo_that_does_not_count_changes_no_statistics():
    torch.manual_seed(0)
    module, x = Own().eval(), torch.randn(1, 8, 12, 20)
    mask = torch.ones(1, 24, 40, dtype=torch.bool)  # at twice the scale of x
    mask[..., :4] = False
    expected = record(module, x[..., 2:])[1]
    x[..., :2] += 5.0
    _, statistics = record(module, x, mask)
    for name, tensor in statistics.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[name], atol=0, rtol=0, msg=name)
    assert statistics.num_pixels == 24 * 36


def test_a_coarse_pixel_counts_where_any_pixel_of_its_square_does():
    module, x = Own().eval(), torch.arange(8.0).reshape(1, 1, 2, 4)
    mask = torch.zeros(1, 8, 16, dtype=torch.bool)  # at four times the scale of x
    mask[0, 3, 15] = mask[0, 4:, :4] = True
    _, statistics = record(module, x, mask)
    assert statistics.tensors["/0/mean"].item() == (3 + 4) / 2
    assert statistics.tensors["/0/maximum"].item() == 4


def test_weights_count_in_means_and_not_in_maxima():
    x = torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    module = Own().eval()
    weighted = Counted(torch.ones(2, 4, 4, dtype=torch.bool), torch.tensor([3.0, 1.0]))
    with recording(module, weighted):
        mean, square, maximum, products = module(x)
    assert (mean.item(), square.item(), maximum.item(), products.item()) == (2.0, 7.0, 5.0, 7.0)


def record_network(model, ir, vis, noise):
    with torch.inference_mode(), recording(model, counted(ir)) as statistics:
        fused = model(ir, vis, noise)
    return fused, statistics


def test_each_call_of_a_module_has_its_own_name(model, inputs):
    names = record_network(model, *inputs)[1].tensors.keys()
    assert {"dtb.layers.0.attention/0/products", "dtb.layers.0.attention/1/products"} <= names
    assert {f"csab.channel/{call}/maximum" for call in range(3)} <= names
    assert {f"dm.unet.middle_attention/{call}/key" for call in range(3)} <= names
    assert not [name for name in names if name.split("/")[1] > "2"]


def test_without_statistics_the_network_gives_the_same_bytes_before_and_after(model, inputs):
    with torch.inference_mode():
        before = model(*inputs)
    record_network(model, *inputs)
    with torch.inference_mode():
        assert torch.equal(model(*inputs), before)


def test_statistics_are_for_one_call_of_the_same_network(model, inputs):
    _, statistics = record_network(model, *inputs)
    with torch.inference_mode(), replaying(model, statistics):
        model(*inputs)
        with pytest.raises(ValueError, match="lack 'dtb.layers.0.attention/2/products'"):
            model(*inputs)
    with pytest.raises(ValueError, match="in training mode"), replaying(DMNet(TINY), statistics):
        pass


def test_a_recording_leaves_another_model_and_another_thread_alone(model, inputs):
    torch.manual_seed(1)
    other = DMNet(TINY).eval()
    with torch.inference_mode():
        expected, expected_other = model(*inputs), other(*inputs)
    found = []

    def run():
        with torch.inference_mode():
            found.append(model(*inputs))

    with torch.inference_mode(), recording(model, counted(inputs[0])) as statistics:
        assert torch.equal(other(*inputs), expected_other)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert torch.equal(found[0], expected)
    assert not statistics.tensors
