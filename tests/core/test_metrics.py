"""Each metric: closed-form values, batches, outside reference numbers, edge cases, errors."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmnet_core import metrics
from dmnet_core.metrics import (
    METRICS,
    cut,
    fusion_metrics,
    fusion_statistics,
    merge,
    pack_statistics,
    unpack_statistics,
)

SEPARATE = {
    "EN": lambda ir, vis, fused: metrics.entropy(fused),
    "SD": lambda ir, vis, fused: metrics.standard_deviation(fused),
    "SF": lambda ir, vis, fused: metrics.spatial_frequency(fused),
    "AG": lambda ir, vis, fused: metrics.average_gradient(fused),
    "MI": metrics.mutual_information,
    "CC": metrics.correlation_coefficient,
    "SCD": metrics.sum_of_correlations_of_differences,
    "VIF": metrics.visual_information_fidelity,
    "Qabf": metrics.edge_preservation,
    "MS-SSIM": metrics.joint_ms_ssim,
    "MS-SSIM-Wang": metrics.wang_ms_ssim,
}
IN_FLOAT32 = {"MS-SSIM", "MS-SSIM-Wang"}
LOOSER = {"Qabf": 1e-4, "MS-SSIM": 1e-4, "MS-SSIM-Wang": 1e-4}


def random_images(batch, height, width):
    generator = torch.Generator().manual_seed(0)
    shape = (3, batch, 1, height, width)
    return tuple(torch.randint(0, 256, shape, generator=generator).double())


def ramp(step):
    return (torch.arange(40.0).double() * step).expand(40, 40)[None, None]


def test_a_horizontal_ramp_has_the_metrics_of_its_slope():
    fused = ramp(3)
    values = fusion_metrics(fused, fused, fused)
    assert values["EN"].item() == pytest.approx(math.log2(40))
    assert values["SD"].item() == pytest.approx(3 * math.sqrt((40**2 - 1) / 12))
    assert values["SF"].item() == pytest.approx(3)
    assert values["AG"].item() == pytest.approx(3 / math.sqrt(2))
    assert values["MI"].item() == pytest.approx(2 * math.log(40))
    assert values["CC"].item() == pytest.approx(1)
    assert values["VIF"].item() == pytest.approx(2, abs=1e-6)
    assert values["MS-SSIM-Wang"].item() == pytest.approx(1)


def test_a_fused_image_equal_to_both_sources_keeps_everything():
    image = random_images(1, 64, 80)[0]
    values = fusion_metrics(image, image, image)
    assert values["MI"].item() == pytest.approx(2 * math.log(2) * values["EN"].item())
    assert values["CC"].item() == pytest.approx(1)
    assert values["SCD"].item() == 0  # nothing was left out, so there is nothing to correlate
    assert values["VIF"].item() == pytest.approx(2, abs=1e-6)
    # 0.9750 is the largest value that the two sigmoids of Qabf reach
    assert values["Qabf"].item() == pytest.approx(0.9750, abs=5e-4)
    assert values["MS-SSIM-Wang"].item() == pytest.approx(1)


def test_the_sum_of_the_sources_has_the_largest_scd():
    ir, vis, _ = random_images(1, 32, 32)
    ir, vis = (ir / 2).floor(), (vis / 2).floor()
    assert fusion_metrics(ir, vis, ir + vis)["SCD"].item() == pytest.approx(2)


def test_a_checkerboard_uses_one_bit():
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2)[None, None] * 255.0
    values = fusion_metrics(board, board, board)
    assert values["EN"].item() == pytest.approx(1)
    assert values["SD"].item() == pytest.approx(127.5)
    assert values["SF"].item() == pytest.approx(255 * math.sqrt(2))


@pytest.mark.parametrize("name", METRICS)
def test_one_metric_alone_equals_the_metric_among_all(name):
    images = random_images(2, 61, 47)
    alone = SEPARATE[name](*images)
    assert alone.dtype == torch.float64
    torch.testing.assert_close(alone, fusion_metrics(*images)[name], rtol=1e-9, atol=1e-12)


def test_a_batch_equals_its_images_one_by_one():
    images = random_images(3, 50, 64)
    together = fusion_metrics(*images)
    for index in range(3):
        alone = fusion_metrics(*(image[index : index + 1] for image in images))
        for name in METRICS:
            # sums in another order, and two metrics filter in float32
            rtol = 1e-6 if name in IN_FLOAT32 else 1e-9
            torch.testing.assert_close(together[name][index], alone[name][0], rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (3, 3), (9, 200), (10, 11), (17, 23)])
@pytest.mark.parametrize("level", [0.0, 128.0, None])
def test_constant_and_tiny_images_have_finite_values(size, level):
    ir, vis, fused = random_images(1, *size)
    for images in ((ir, vis, fused), (ir, ir, ir)):
        if level is not None:
            images = (images[0], torch.full_like(vis, level), torch.full_like(vis, level))
        for name, value in fusion_metrics(*images).items():
            assert math.isfinite(value.item()), name


def test_a_constant_fused_image_shares_nothing_with_its_sources():
    ir, vis, _ = random_images(1, 64, 64)
    values = fusion_metrics(ir, vis, torch.full_like(ir, 7.0))
    for name in ("EN", "SD", "SF", "AG", "MI", "CC"):
        assert values[name].item() == 0, name
    assert values["VIF"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((torch.zeros(5, 5),) * 3, r"shape \(5, 5\), expected \(B, 1, H, W\)"),
        ((torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 5, 5)), "one shape"),
        ((torch.full((1, 1, 5, 5), 300.0),) * 3, "grey levels in"),
        ((torch.full((1, 1, 5, 5), math.nan),) * 3, "no NaN"),
    ],
)
def test_wrong_images_are_refused_by_name(images, message):
    with pytest.raises(ValueError, match=message):
        fusion_metrics(*images)


def read_levels(path):
    pixels = np.asarray(Image.open(path)).astype(np.float64)
    if pixels.ndim == 3:
        pixels = np.round(pixels @ np.array([0.299, 0.587, 0.114]))
    return torch.from_numpy(pixels)[None, None]


def packed_parts(ir, vis, fused, windows, valid):
    for window in windows:
        rows, columns = window.rows, window.columns
        array = (..., slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        # windows with masks and windows without may be mixed
        known = None if valid is None or valid[array].all() else valid[array]
        yield pack_statistics(fusion_statistics(ir[array], vis[array], fused[array], window, known))


def windowed_metrics(ir, vis, fused, windows, valid=None):
    return merge(unpack_statistics(data) for data in packed_parts(ir, vis, fused, windows, valid))


LOOSELY_MERGED = {"VIF": 1e-6, "MS-SSIM": 1e-6, "MS-SSIM-Wang": 1e-6}
"""Relative, far below what is asked: filters in other strips round otherwise."""


def check_merged(images, windows, valid=None):
    whole, merged = fusion_metrics(*images, valid), windowed_metrics(*images, windows, valid)
    for name in METRICS:
        expected = pytest.approx(whole[name].numpy(), rel=LOOSELY_MERGED.get(name, 1e-9), abs=1e-12)
        assert merged[name].numpy() == expected, name


@pytest.mark.parametrize("shape", [(400, 500), (401, 331), (399, 450), (227, 179), (40, 700)])
@pytest.mark.parametrize("core", [512, 128, 97])
def test_windows_with_a_halo_merge_to_the_whole_image(shape, core):
    images = random_images(2, *shape)
    check_merged(images, list(cut(*shape, core)))


@pytest.mark.parametrize("core", [128, 97])
def test_windows_with_masks_merge_to_the_whole_image(core):
    images = random_images(2, 401, 531)
    valid = torch.rand(images[0].shape, generator=torch.Generator().manual_seed(1)) >= 0.001
    valid[..., 250:] = True
    valid[0, :, 300:, :90] = False
    windows = list(cut(401, 531, core, halo=176))
    whole = [window.columns.start >= 250 for window in windows]
    assert any(whole) and not all(whole)
    check_merged(images, windows, valid)


def test_windows_of_real_images_merge_to_the_whole_image(shared_data):
    folder = shared_data / "llvip_sample"
    name = min(path.stem for path in (folder / "ir").iterdir())
    ir, vis = (read_levels(next((folder / side).glob(f"{name}.*"))) for side in ("ir", "vis"))
    images = ir, vis, torch.maximum(ir, vis)
    for core in (512, 300):
        check_merged(images, list(cut(*ir.shape[2:], core)))
    odd = [image[..., :-3, :-7] for image in images]
    check_merged(odd, list(cut(*odd[0].shape[2:], 640)))


def test_packed_statistics_are_the_same_and_small(shared_data):
    folder = shared_data / "m3fd_sample"
    ir, vis = (read_levels(folder / side / "M3FD_00471.png") for side in ("ir", "vis"))
    statistics = fusion_statistics(ir, vis, torch.maximum(ir, vis))
    data = pack_statistics(statistics)
    assert len(data) < 150_000 and data == pack_statistics(statistics)
    unpacked = unpack_statistics(data)
    assert unpacked.keys() == statistics.keys()
    for name, tensor in statistics.items():
        assert torch.equal(unpacked[name], tensor) and unpacked[name].dtype == tensor.dtype


def test_damaged_statistics_are_refused():
    data = pack_statistics(fusion_statistics(*random_images(1, 20, 20)))
    for damaged in (b"", b"no statistics", data[:-5], data[:99], data[:500] + b"?" + data[501:]):
        with pytest.raises(ValueError, match="are no statistics of a window"):
            unpack_statistics(damaged)


def test_a_window_without_the_halo_that_it_needs_is_refused():
    images = random_images(1, 400, 400)
    with pytest.raises(ValueError, match="give it a halo of 176 pixels"):
        windowed_metrics(*images, cut(400, 400, 200, halo=100))
    with pytest.raises(ValueError, match="their window is"):
        fusion_statistics(*images, next(cut(400, 400, 200)))


def read_references(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    return rows


def test_reference_values_of_every_15th_row_are_met(golden_metrics, shared_data):
    """Ten rows: of both sets of images and of both methods."""
    rows = read_references(golden_metrics)[::15]
    assert len({(row["set"], row["method"]) for row in rows}) == 4
    check_references(rows, shared_data)


@pytest.mark.slow
def test_every_reference_value_is_met(golden_metrics, shared_data):
    check_references(read_references(golden_metrics), shared_data)


def check_references(rows, shared_data):
    for row in rows:
        folder, stem = shared_data / row["set"], Path(row["image"]).stem
        ir, vis = (read_levels(next((folder / side).glob(f"{stem}.*"))) for side in ("ir", "vis"))
        average = ((ir + vis) / 2).round()
        fused = average if row["method"] == "average" else torch.maximum(ir, vis)
        values = fusion_metrics(ir, vis, fused)
        for name in METRICS:
            expected = pytest.approx(float(row[name]), rel=LOOSER.get(name, 1e-6))
            assert values[name].item() == expected, f"{name} of {row['set']}/{stem}"
