"""Metrics of images with pixels without data: such pixels take no part in any sum."""

import math

import numpy as np
import pytest
import torch

from dmnet_core.metrics import METRICS, Span, Window, cut, fusion_metrics, fusion_statistics
from dmnet_core.metrics.contrast import ag_of, ag_statistics
from dmnet_core.metrics.qabf import qabf_of, qabf_statistics
from dmnet_core.metrics.structure import JOINT_WEIGHTS, WANG_WEIGHTS, wang_of
from dmnet_core.metrics.vif import KERNEL_SIZES


def random_images(batch, height, width):
    generator = torch.Generator().manual_seed(0)
    shape = (3, batch, 1, height, width)
    return tuple(torch.randint(0, 256, shape, generator=generator).double())


def scattered(image, share):
    """Return a mask of which so many pixels are False."""
    return torch.rand(image.shape, generator=torch.Generator().manual_seed(1)) >= share


def rectangle(image, rows, columns):
    valid = torch.zeros(image.shape, dtype=torch.bool)
    valid[..., rows, columns] = True
    return valid


OF_PIXELS = ("EN", "MI", "SD", "CC", "SCD")
OF_FILTERS = ("VIF", "MS-SSIM", "MS-SSIM-Wang")


@pytest.mark.parametrize(
    ("rows", "columns", "names"),
    [
        (slice(13, 150), slice(7, 204), (*OF_PIXELS, "SF")),
        # multiples of 16, so that no pixel of the fifth scale lies across the border
        (slice(32, 208), slice(48, 256), (*OF_PIXELS, "SF", *OF_FILTERS)),
        (slice(0, 192), slice(80, 272), (*OF_PIXELS, "SF", *OF_FILTERS)),
    ],
)
def test_a_valid_rectangle_has_the_metrics_of_its_crop(rows, columns, names):
    images = random_images(2, 256, 272)
    values = fusion_metrics(*images, rectangle(images[0], rows, columns))
    crop = fusion_metrics(*(image[..., rows, columns] for image in images))
    for name in names:
        rel = 1e-6 if name in OF_FILTERS else 1e-12  # filters in other strips round otherwise
        assert values[name].numpy() == pytest.approx(crop[name].numpy(), rel=rel), name


@pytest.mark.parametrize("top", [0, 13])
def test_gradients_and_edges_of_a_valid_rectangle_are_those_of_its_crop_inside_the_border(top):
    """The border is left out only where the rectangle ends within the image."""
    images = random_images(2, 70, 90)
    crop = [image[..., top:60, 7:90].float() for image in images]
    window = Window(
        Span(length=70, start=top, stop=60, first=top and top + 1, last=59),
        Span(length=90, start=7, stop=90, first=8, last=90),
    )
    values = fusion_metrics(*images, rectangle(images[0], slice(top, 60), slice(7, 90)))
    edges = qabf_of(qabf_statistics(torch.cat(crop, dim=1), window))
    torch.testing.assert_close(values["AG"], ag_of(ag_statistics(crop[2], window)), rtol=1e-9, atol=0)
    torch.testing.assert_close(values["Qabf"], edges, rtol=1e-6, atol=0)


def test_the_order_of_the_valid_pixels_does_not_matter_to_metrics_of_single_pixels():
    images = random_images(1, 40, 50)
    chosen = torch.randperm(2000, generator=torch.Generator().manual_seed(2))[:1500]
    valid = torch.zeros(2000, dtype=torch.bool)
    valid[chosen] = True
    values = fusion_metrics(*images, valid.view(1, 1, 40, 50))
    packed = fusion_metrics(*(image.flatten()[chosen].view(1, 1, 30, 50) for image in images))
    for name in OF_PIXELS:
        assert values[name].item() == pytest.approx(packed[name].item(), rel=1e-12), name


def test_differences_and_gradients_need_all_their_pixels_to_be_valid():
    images = random_images(1, 40, 50)
    valid = scattered(images[2], 0.1)
    fused = images[2].masked_fill(~valid, math.nan)[0, 0].numpy()
    values = fusion_metrics(*images, valid)
    means = [np.nanmean(np.diff(fused, axis=axis) ** 2) for axis in (0, 1)]
    assert values["SF"].item() == pytest.approx(math.sqrt(sum(means)))
    lengths = np.sqrt(sum(gradient**2 for gradient in np.gradient(fused)) / 2)
    assert values["AG"].item() == pytest.approx(np.nanmean(lengths + 0 * fused))


def test_edges_need_all_pixels_around_them_to_be_valid():
    images = random_images(1, 14, 17)
    valid = scattered(images[0], 0.1)
    invalid_near = torch.nn.functional.max_pool2d((~valid).float(), 3, stride=1, padding=1)[0, 0]
    levels = torch.cat(images, dim=1).float()
    total = torch.zeros(1, 2, dtype=torch.float64)
    for window in cut(14, 17, core=1, halo=1):
        rows, columns = window.rows, window.columns
        if not invalid_near[rows.first, columns.first]:
            pixels = levels[..., rows.start : rows.stop, columns.start : columns.stop]
            total += qabf_statistics(pixels, window)
    expected = qabf_of(total).item()
    assert fusion_metrics(*images, valid)["Qabf"].item() == pytest.approx(expected, rel=1e-6)


def information(source, fused):
    """Return VIF by convolutions, leaving out each position that a NaN reaches."""
    kept = total = 0.0
    for scale, size in enumerate(KERNEL_SIZES):
        weights = torch.exp(-0.5 * ((torch.arange(size).double() - size // 2) * 5 / size) ** 2)
        kernel = (weights[:, None] * weights / weights.sum() ** 2)[None, None]

        def mean(image, kernel=kernel):
            return torch.nn.functional.conv2d(image, kernel)

        if scale:
            source, fused = mean(source)[..., ::2, ::2], mean(fused)[..., ::2, ::2]
        variance = mean(source**2) - mean(source) ** 2
        covariance = mean(source * fused) - mean(source) * mean(fused)
        gain = covariance.clamp(min=0) / variance
        noise = mean(fused**2) - mean(fused) ** 2 - gain * covariance
        kept += torch.log1p(gain**2 * variance / (noise + 2)).nansum().item()
        total += torch.log1p(variance / 2).nansum().item()
    return kept / total


def test_vif_leaves_out_each_filter_position_with_an_invalid_pixel():
    images = random_images(1, 101, 122)
    valid = scattered(images[0], 0.002)
    ir, vis, fused = (image.masked_fill(~valid, math.nan) for image in images)
    expected = information(ir, fused) + information(vis, fused)
    assert fusion_metrics(*images, valid)["VIF"].item() == pytest.approx(expected, rel=1e-6)


def test_ms_ssim_counts_the_patches_without_an_invalid_pixel_at_each_scale():
    images = random_images(1, 301, 375)
    valid = scattered(images[0], 0.0005)
    statistics = fusion_statistics(*images, valid=valid)
    joint, wang = statistics["MS-SSIM"][0, :, 1], statistics["MS-SSIM-Wang"][0, :, :, 2]
    for counts, symmetric in ((joint, True), (wang[:, 0], False), (wang[:, 1], False)):
        missing = (~valid).float()
        for scale, count in enumerate(counts.tolist()):
            if scale:
                bottom, right = (side % 2 for side in missing.shape[2:])
                sides = (0, right, 0, bottom) if symmetric else (right, 0, bottom, 0)
                padded = torch.nn.functional.pad(missing, sides)
                missing = torch.nn.functional.max_pool2d(padded, 2)
            patches = 1 - torch.nn.functional.max_pool2d(missing, 11, stride=1)
            assert count == patches.sum().item(), scale
        assert counts[len(JOINT_WEIGHTS) - 1] > 0


@pytest.mark.parametrize("share", [0.0005, 0.1])
def test_levels_of_invalid_pixels_do_not_matter(share):
    images = random_images(2, 121, 99)
    valid = scattered(images[0], share)
    valid[0, :, 90:, 40:] = False
    values = fusion_metrics(*images, valid)
    for fill in (0.0, 255.0, 17.0):
        filled = fusion_metrics(*(image.masked_fill(~valid, fill) for image in images), valid)
        for name in METRICS:
            assert torch.equal(filled[name], values[name]), name


def test_a_mask_that_is_true_everywhere_changes_nothing():
    for shape in ((240, 320), (61, 47), (9, 200), (3, 3)):
        images = random_images(2, *shape)
        values = fusion_metrics(*images)
        masked = fusion_metrics(*images, torch.ones(images[0].shape, dtype=torch.bool))
        for name in METRICS:
            torch.testing.assert_close(masked[name], values[name], rtol=1e-12, atol=1e-12)


def test_an_image_without_a_valid_pixel_has_documented_values_and_leaves_its_batch_alone():
    images = random_images(2, 61, 47)
    valid = torch.ones(images[0].shape, dtype=torch.bool)
    valid[0] = False
    values, whole = fusion_metrics(*images, valid), fusion_metrics(*images)
    for name in METRICS:
        assert values[name][0].item() == (2.0 if name == "VIF" else 0.0), name
        assert values[name][1].item() == pytest.approx(whole[name][1].item(), rel=1e-12), name


@pytest.mark.parametrize("size", [(3, 3), (14, 14), (40, 61)])
@pytest.mark.parametrize("side", [1, 2, 3, 11])
def test_few_valid_pixels_have_finite_values(size, side):
    images = random_images(1, *size)
    for start in (0, 2):
        for columns in (slice(start, start + side), slice(None)):
            valid = rectangle(images[0], slice(start, start + side), columns)
            for name, value in fusion_metrics(*images, valid).items():
                assert math.isfinite(value.item()), name


def test_wang_ms_ssim_compares_brightness_at_the_last_scale_in_use_alone():
    statistics = torch.zeros(1, 5, 2, 3, dtype=torch.float64)
    statistics[0, 0] = torch.tensor([8.0, 1.0, 10.0])  # contrast, similarity, patches
    statistics[0, 2] = torch.tensor([1.0, 5.0, 10.0])
    first, third = WANG_WEIGHTS[0], WANG_WEIGHTS[2]
    expected = (0.8**first * 0.5**third) ** (1 / (first + third))
    assert wang_of(statistics).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "valid", [torch.ones(1, 1, 5, 6, dtype=torch.bool), torch.ones(1, 1, 5, 5), torch.ones(5, 5) > 0]
)
def test_a_wrong_mask_is_refused(valid):
    images = random_images(1, 5, 5)
    with pytest.raises(ValueError, match=r"expected torch.bool with shape \(1, 1, 5, 5\)"):
        fusion_metrics(*images, valid)
