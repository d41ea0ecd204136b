"""What becomes of source values: ranges, pixels without data, borders, colour."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.color import rgb_to_chroma, rgb_to_y
from dmnet_core.inference import finish, fuse, fuse_and_score
from dmnet_core.prepare import (
    FlatRange,
    NoFinitePixels,
    NoOverlap,
    Reading,
    SizeMismatch,
    TooSmall,
    prepare_pair,
)
from dmnet_core.ranges import check_range_policy, find_borders, to_unit, value_range

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(20, 236, (40, 56)).astype(np.uint8)
COLOUR = RANDOM.integers(20, 236, (40, 56, 3)).astype(np.uint8)
COUNTS = np.linspace(7000, 9500, 40 * 56).reshape(40, 56).astype(np.uint16)


def test_sixteen_bit_counts_in_a_narrow_band_keep_their_detail():
    counts = np.linspace(21_000, 21_400, 64 * 64).reshape(64, 64).astype(np.uint16)
    low, high = value_range(counts, "auto")
    unit = to_unit(counts, low, high)
    assert unit.std() > 0.25  # a uniform ramp over [0, 1] has 0.289


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("auto", (0, 255)), ("dtype", (0, 255)), ("minmax", (10, 90)), ("5:20.5", (5, 20.5))]
    + [("-40:120", (-40, 120))],
)
def test_range_policies(policy, expected):
    assert value_range(np.array([[10, 90]], np.uint8), policy) == expected


@pytest.mark.parametrize("policy", ["wide", "3:1", "nan:2", "1:2:3"])
def test_an_unknown_range_policy_is_named(policy):
    with pytest.raises(ValueError, match="infrared range policy is .* LOW:HIGH"):
        check_range_policy(policy, "infrared")
    with pytest.raises(ValueError, match="visible range policy is .* LOW:HIGH"):
        Reading(vis_range=policy)
    with pytest.raises(ValueError, match="colour is 'both', expected one of auto"):
        Reading(colour="both")


def test_percentiles_that_are_equal_give_way_to_the_extremes():
    image = np.full((100, 100), 5, np.uint16)
    image[0, 0] = 9
    assert value_range(image, "auto") == (5, 9)


def test_a_constant_image_and_nan_become_zero():
    assert to_unit(np.array([np.nan, 3.0, np.inf]), 0.0, 3.0).tolist() == [0, 1, 0]
    assert to_unit(np.full(3, 7.0), 7.0, 7.0).tolist() == [0, 0, 0]


def test_each_side_has_its_own_range():
    pair = prepare_pair(COUNTS, GREY, Reading(ir_range="7000:9500"))
    np.testing.assert_allclose(pair.ir, (COUNTS - 7000.0) / 2500, atol=1e-6)
    np.testing.assert_allclose(pair.vis, GREY / 255, atol=1e-6)
    assert (pair.ir_range, pair.vis_range) == ((7000, 9500), (0, 255))


def test_a_range_that_leaves_one_grey_level_is_refused_and_a_constant_image_is_not():
    with pytest.raises(FlatRange, match="visible has values from 20 to 235, of which the range 7000"):
        prepare_pair(COUNTS, GREY, Reading("7000:9500", "7000:9500"))
    with pytest.raises(FlatRange, match="infrared has values from 7000 to 9500"):
        prepare_pair(COUNTS, GREY, Reading("-40:120"))
    black = np.zeros_like(GREY)
    assert not prepare_pair(GREY, black).vis.any()


def test_pairs_that_cannot_be_fused_are_named():
    with pytest.raises(SizeMismatch, match="8 x 8 px and visible is 8 x 9"):
        prepare_pair(GREY[:8, :8], GREY[:8, :9])
    with pytest.raises(TooSmall, match="7 x 9"):
        prepare_pair(GREY[:7, :9], GREY[:7, :9])
    with pytest.raises(NoFinitePixels, match="infrared has no pixel with data"):
        prepare_pair(np.full((8, 8), np.nan), GREY[:8, :8])
    with pytest.raises(ValueError, match="expected \\(H, W\\)"):
        prepare_pair(np.dstack([GREY, GREY]), GREY)
    left = np.arange(56) < 28
    with pytest.raises(NoOverlap, match="no pixel has data in both"):
        prepare_pair(GREY, GREY, ir_valid=np.tile(left, (40, 1)), vis_valid=np.tile(~left, (40, 1)))
    with pytest.raises(TypeError, match="visible is a torch.Tensor, expected a NumPy array"):
        prepare_pair(GREY, torch.from_numpy(GREY))


@pytest.mark.parametrize("marked", [-9999.0, -3.4e38, np.nan, np.inf])
def test_pixels_without_data_take_no_part_in_the_range(marked):
    image, valid = COUNTS.astype(np.float32), np.ones((40, 56), bool)
    valid[5:9, 7:20] = False
    image[~valid] = marked
    finite = np.isfinite(marked)
    pair = prepare_pair(image, GREY, Reading("minmax"), ir_valid=valid if finite else None)
    assert pair.ir_range == (7000, 9500)
    np.testing.assert_array_equal(pair.valid, valid)
    assert pair.valid_share == valid.mean()
    # there, the other image
    np.testing.assert_array_equal(pair.ir[~valid], pair.vis[~valid])


def test_where_neither_image_has_data_each_has_its_mean_and_the_result_is_zero():
    hole = np.ones((40, 56), bool)
    hole[:4, :4] = False
    pair = prepare_pair(GREY, COLOUR, ir_valid=hole, vis_valid=hole)
    for image in (pair.ir, pair.vis):
        np.testing.assert_allclose(image[~hole], image[hole].mean())
    fused = finish(np.ones((40, 56), np.float32), pair)
    assert not fused[~hole].any() and fused[hole].any(axis=1).all()


def find_border(image, valid=None):
    """Return where there is any border, (H, W); None where there is none."""
    found = [border.mask for border in find_borders(image, valid)]
    return np.logical_or.reduce(found) if found else None


def bordered(inside, value=0, width=5):
    image = inside.copy()
    image[:width], image[:, :width] = value, value
    where = np.zeros(image.shape[:2], bool)
    where[:width], where[:, :width] = True, True
    return image, where


@pytest.mark.parametrize("inside", [COUNTS, GREY, COLOUR, COUNTS.astype(np.float32)])
def test_a_border_of_zeros_has_no_data(inside):
    lifted = np.clip(inside, 60, None)
    image, where = bordered(lifted)
    np.testing.assert_array_equal(find_border(image), where)
    pair = prepare_pair(image, GREY)
    np.testing.assert_array_equal(pair.valid, ~where)
    assert find_border(lifted) is None


def test_a_slanted_border_and_one_of_the_highest_count_are_found():
    slanted = COUNTS.copy()
    where = np.add.outer(np.arange(40), 2 * np.arange(56)) < 40
    where |= np.add.outer(np.arange(40), 2 * np.arange(56)) > 120
    slanted[where] = 65535
    np.testing.assert_array_equal(find_border(slanted), where)


def test_a_border_inside_of_pixels_without_data_is_found():
    image, border = bordered(GREY // 2 + 100)
    warped = np.pad(image, 4, constant_values=7)
    valid, where = (np.pad(mask, 4) for mask in (np.ones(image.shape, bool), border))
    assert find_border(warped) is None
    np.testing.assert_array_equal(find_border(warped, valid), where)
    warped[20, 20] = 0  # nothing leads there
    np.testing.assert_array_equal(find_border(warped, valid), where)


def test_a_spiral_is_followed_to_its_end_and_an_island_is_not_a_border():
    image = COUNTS.copy()
    spiral = np.zeros((40, 56), bool)
    spiral[0:38, 2] = spiral[37, 2:50] = spiral[4:38, 49] = spiral[4, 8:50] = spiral[4:30, 8] = True
    image[spiral] = image[20, 20] = 0
    np.testing.assert_array_equal(find_border(image), spiral)


FOOTPRINT = np.add.outer(np.arange(240), -np.arange(320) / 40) > 14
"""The slanted part that a registered image shows, below a border of 14 to 22 rows."""


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("is_colour", [False, True])
def test_a_border_of_zeros_is_found_after_jpeg_has_changed_it(is_colour, quality):
    waves = np.multiply.outer(np.sin(np.arange(240) / 17), np.cos(np.arange(320) / 23))
    inside = np.clip(100 + 55 * waves + RANDOM.normal(0, 8, (240, 320)), 40, 230)
    image = np.where(FOOTPRINT, inside, 0).astype(np.uint8)
    if is_colour:
        image = np.dstack([image, image // 2, image // 3 + 30 * FOOTPRINT]).astype(np.uint8)
    noisy = jpeg(image, quality)
    assert (noisy[~FOOTPRINT] > 0).any()
    found = find_border(noisy)
    assert not (found & FOOTPRINT).any()
    # nothing but pixels to which JPEG gave half of the data's brightness, in blocks of strong edges
    assert (~found & ~FOOTPRINT).sum() <= 0.002 * (~FOOTPRINT).sum()
    assert find_border(jpeg(np.clip(image, 40, None), quality)) is None


def test_the_border_of_a_rectified_thermal_jpeg_is_found_and_a_dark_frame_has_none(shared_data):
    files = sorted((shared_data / "uav_facade/ir").iterdir())
    for file in files:
        image = np.asarray(Image.open(file))
        border = find_border(image)
        assert 0.043 < border.mean() < 0.044
        # the border's JPEG noise ends at half of the 19 or 20 levels of the picture's darkest part
        assert image.mean(axis=2)[border].max() < 10 and np.percentile(image[~border], 0.1) >= 18
    found = {}
    for data in ("msrs_sample", "tno_test", "roadscene_test"):
        for file in sorted((shared_data / data).rglob("*.[pj][np]g")):
            border = find_border(np.asarray(Image.open(file)))
            if border is not None:
                found[f"{data}/{file.parent.name}/{file.name}"] = int(border.sum())
    # left by the digitising of a video, and of one value
    expected = {"03": 2486, "14": 3006, "17": 2962}
    assert found == {f"tno_test/vis/{name}.png": count for name, count in expected.items()}


def test_a_dark_sky_is_data():
    # falls to black without a gap, as a night sky or the background of a scan does
    sky = np.clip(np.linspace(-80, 200, 40)[:, None] + RANDOM.integers(0, 9, (40, 56)), 0, 255)
    assert (sky == 0).mean() > 0.2
    assert find_border(sky.astype(np.uint8)) is None
    # overexposed: the highest level, some levels above all that is not
    bright = np.where(np.arange(40)[:, None] < 9, 255, GREY).astype(np.uint8)
    assert find_border(bright) is None
    # a wall of one level, and a drawing of two
    assert find_border(np.where(np.arange(40)[:, None] < 9, 50, GREY // 8 + 90)) is None
    assert find_border(np.where(GREY > 99, 255, 0).astype(np.uint8)) is None


@pytest.mark.parametrize(
    ("ir", "vis", "colour", "of"),
    [
        (GREY, COLOUR, "auto", "vis"),
        (COLOUR, GREY, "auto", "ir"),
        (COLOUR, COLOUR[::-1], "auto", "vis"),
        (COLOUR, COLOUR[::-1], "ir", "ir"),
        (COLOUR, COLOUR[::-1], "none", None),
        (GREY, COLOUR, "ir", None),
        (GREY, np.dstack([GREY] * 3), "auto", None),
    ],
)
def test_the_colour_is_of_the_side_that_has_it_or_is_asked_for(ir, vis, colour, of):
    pair = prepare_pair(ir, vis, Reading(colour=colour))
    if of is None:
        assert pair.chroma is None
        return
    unit = (ir if of == "ir" else vis).astype(np.float32) / 255
    np.testing.assert_allclose(pair.chroma, rgb_to_chroma(unit, rgb_to_y(unit)), atol=1e-6)


def test_metrics_and_pixels_with_data_do_not_mind_those_without():
    model = load_checkpoint().model
    hole = np.ones((40, 56), bool)
    hole[:, :9] = False
    results = []
    for fill in (0, 200):
        image = np.where(hole, GREY, fill).astype(np.uint8)
        pair = prepare_pair(image, COLOUR, ir_valid=hole)
        (fused,), metrics = fuse_and_score(model, [pair], pair_ids=["a"])
        results.append((fused, {name: float(value) for name, value in metrics.items()}))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    whole = fuse_and_score(model, [prepare_pair(GREY, COLOUR)], pair_ids=["a"])[1]
    assert results[0][1]["SD"] != float(whole["SD"])


def test_colour_of_sixteen_bits_keeps_its_levels():
    model = load_checkpoint().model
    deep = (COLOUR.astype(np.uint16) << 4) + 3  # 12 bits, as cameras give reflectance
    fused = fuse(model, GREY, deep)
    assert fused.shape == (40, 56, 3) and len(np.unique(fused)) > 150
