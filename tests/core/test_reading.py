"""A scene's values are read the same in each of its windows as in one piece."""

import numpy as np
import pytest

from dmnet_core.prepare import (
    DEFAULT,
    FlatRange,
    NoFinitePixels,
    NoOverlap,
    Reading,
    SizeMismatch,
    TooSmall,
    prepare_pair,
)
from dmnet_core.reading import (
    overview_of,
    overview_step,
    prepare_overview,
    prepare_window,
    read_scene,
)
from dmnet_core.window import is_scene

HEIGHT, WIDTH, STEP = 190, 243, 4
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RANDOM = np.random.default_rng(0)
COUNTS = (7000 + 10 * ROWS + RANDOM.integers(0, 200, (HEIGHT, WIDTH))).astype(np.uint16)
COLOUR = (60 + (ROWS + COLUMNS)[..., None] // 4 + RANDOM.integers(0, 60, (HEIGHT, WIDTH, 3))).astype("u1")
FOOTPRINT = (2 * ROWS + COLUMNS > 90) & (ROWS - 3 * COLUMNS > -610)
"""The slanted part of a scene that a sensor saw."""


def overviews(ir, vis, ir_valid=None, vis_valid=None, step=STEP):
    """Return both overviews and where they have data, as `read_scene` takes them."""
    (ir, ir_valid), (vis, vis_valid) = overview_of(ir, ir_valid, step), overview_of(vis, vis_valid, step)
    return (ir, vis), {"ir_valid": ir_valid, "vis_valid": vis_valid}


def read(ir, vis, reading=DEFAULT, ir_valid=None, vis_valid=None):
    images, masks = overviews(ir, vis, ir_valid, vis_valid)
    return read_scene(*images, reading, **masks, height=HEIGHT, width=WIDTH)


def windows(height=HEIGHT, width=WIDTH, side=64):
    for y in range(0, height, side):
        for x in range(0, width, side - 1):
            yield y, x, (slice(y, y + side), slice(x, x + side))


def floats_with_holes():
    """Return an infrared image in kelvin with a hole of NaN, inside a border of -9999."""
    image = np.where(FOOTPRINT, COUNTS / 30, -9999).astype(np.float32)
    image[100:120, 90:99] = np.nan
    return image


SCENES = {
    "counts and colour": (COUNTS, COLOUR, None, None),
    "border": (np.where(FOOTPRINT, COUNTS, 0).astype(np.uint16), COLOUR, None, None),
    "border of colour": (COUNTS, np.where(FOOTPRINT[..., None], COLOUR, 0).astype(np.uint8), None, None),
    "floats with holes": (floats_with_holes(), COLOUR[..., :1], None, ROWS > 20),
    "masks": (COUNTS[..., None], COLOUR, COLUMNS > 70, ROWS + COLUMNS < 300),
    "infrared colour": (COLOUR, np.clip(COUNTS / 60, 0, 255).astype(np.uint8), None, None),
}


def cut_out(image, at):
    return None if image is None else image[at]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_a_window_equals_the_crop_of_the_whole_scene(scene):
    ir, vis, ir_valid, vis_valid = scene
    found = read(ir, vis, Reading(vis_range="percentile"), ir_valid, vis_valid)
    whole = prepare_window(ir, vis, found, 0, 0, ir_valid=ir_valid, vis_valid=vis_valid)
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    for y, x, at in windows():
        masks = {"ir_valid": cut_out(ir_valid, at), "vis_valid": cut_out(vis_valid, at)}
        pair = prepare_window(ir[at], vis[at], found, y, x, **masks)
        np.testing.assert_array_equal(pair.ir, whole.ir[at])
        np.testing.assert_array_equal(pair.vis, whole.vis[at])
        assert (pair.chroma is None) == (whole.chroma is None) == (found.colour == "none")
        if pair.chroma is not None:
            np.testing.assert_array_equal(pair.chroma, whole.chroma[at])
        for own, of_scene in ((pair.ir_valid, whole.ir_valid), (pair.vis_valid, whole.vis_valid)):
            own, of_scene = (
                everywhere[at] if mask is None else mask for mask in (own, cut_out(of_scene, at))
            )
            np.testing.assert_array_equal(own, of_scene)
        assert (pair.ir_range, pair.vis_range) == (found.ir.limits, found.vis.limits)


@pytest.mark.parametrize("name", ["counts and colour", "masks", "infrared colour"])
def test_a_scene_read_by_itself_is_read_as_a_pair_is(name):
    ir, vis, *masks = SCENES[name]
    given = dict(zip(("ir_valid", "vis_valid"), masks, strict=True))
    found = read_scene(ir, vis, **given, height=HEIGHT, width=WIDTH)
    scene, pair = prepare_window(ir, vis, found, 0, 0, **given), prepare_pair(ir, vis, **given)
    assert found.step == 1
    np.testing.assert_array_equal(scene.ir, pair.ir)
    np.testing.assert_array_equal(scene.vis, pair.vis)
    np.testing.assert_array_equal(scene.chroma, pair.chroma)
    assert (scene.ir_range, scene.vis_range) == (pair.ir_range, pair.vis_range)


@pytest.mark.parametrize("value", [0, 65535])
def test_a_slanted_border_is_found_to_the_pixel_and_does_not_widen_the_range(value):
    ir = np.where(FOOTPRINT, COUNTS, value).astype(np.uint16)
    ir[100, 100] = value  # a dead pixel far from the border is data
    found = read(ir, COLOUR)
    assert found.ir.border_limits == ((value, value),) and found.vis.border is None
    low, high = read(COUNTS, COLOUR).ir.limits
    # means that are half border lie thousands of counts away
    assert found.ir.limits == pytest.approx((low, high), abs=300)
    expected = FOOTPRINT.copy()
    expected[100, 100] = True
    np.testing.assert_array_equal(prepare_window(ir, COLOUR, found, 0, 0).valid, expected)
    # of the overview, only pixels that are wholly data count
    images, masks = overviews(ir, COLOUR)
    small = prepare_overview(*images, found, **masks)
    lost = np.kron(~small.valid, np.ones((STEP, STEP), bool))[:HEIGHT, :WIDTH]
    assert lost[~FOOTPRINT].all() and lost.mean() < 2 * (~FOOTPRINT).mean()


@pytest.mark.parametrize("width", [1, 3, 4, 5, 7])
@pytest.mark.parametrize("sides", ["top", "left", "all", "far"])
def test_a_border_thinner_than_a_pixel_of_the_overview_takes_no_part_in_the_range(width, sides):
    counts = (22_500 + 10 * ROWS + RANDOM.integers(0, 200, (HEIGHT, WIDTH))).astype(np.uint16)
    from_end = (HEIGHT - 1 - ROWS, WIDTH - 1 - COLUMNS)
    distance = {
        "top": ROWS, "left": COLUMNS, "far": np.minimum(*from_end),
        "all": np.minimum(np.minimum(ROWS, COLUMNS), np.minimum(*from_end)),
    }[sides]  # fmt: skip
    inside = distance >= width
    found = read(np.where(inside, counts, 0).astype(np.uint16), COLOUR)
    # up to four pixels of the overview are left out, 16 rows of 10 counts each
    assert found.ir.limits == pytest.approx(read(counts, COLOUR).ir.limits, abs=200)
    window = prepare_window(np.where(inside, counts, 0).astype(np.uint16), COLOUR, found, 0, 0)
    np.testing.assert_array_equal(window.valid, inside)


def test_jpeg_noise_on_a_border_is_no_data_in_any_window():
    inside = COLUMNS - ROWS // 40 > 60
    noise = RANDOM.integers(0, 4, (HEIGHT, WIDTH)) * (RANDOM.random((HEIGHT, WIDTH)) < 0.3)
    noisy = np.where(inside, COLOUR[..., 0], noise).astype(np.uint8)
    found = read(noisy, COLOUR)
    np.testing.assert_array_equal(prepare_window(noisy, COLOUR, found, 0, 0).valid, inside)


def test_a_window_without_any_data_has_the_fill_of_the_scene():
    ir, vis = SCENES["border"][0], np.where(FOOTPRINT[..., None], COLOUR, 0).astype(np.uint8)
    found = read(ir, vis)
    pair = prepare_window(ir[:20, :20], vis[:20, :20], found, 0, 0)
    assert not pair.valid.any()
    assert np.unique(pair.ir) == np.float32(found.ir.fill)
    assert np.unique(pair.vis) == np.float32(found.vis.fill)
    seen = prepare_window(ir, vis, found, 0, 0)
    # the overview leaves out pixels beside the border
    assert found.ir.fill == pytest.approx(seen.ir[FOOTPRINT].mean(), abs=0.02)
    assert found.vis.fill == pytest.approx(seen.vis[FOOTPRINT].mean(), abs=0.02)


def test_a_grey_window_of_a_coloured_scene_has_chroma_and_colour_without_data_does_not_count():
    vis = COLOUR.copy()
    vis[:64, :64] = 90
    found = read(COUNTS, vis)
    assert found.colour == "vis"
    window = prepare_window(COUNTS[:64, :64], vis[:64, :64], found, 0, 0)
    np.testing.assert_allclose(window.chroma, 0, atol=1e-6)
    grey = np.repeat(COLOUR[..., :1], 3, axis=2)
    grey[:40] = (255, 0, 255)
    assert read(COUNTS, grey, vis_valid=ROWS >= 40).colour == "none"
    assert read(COUNTS, COLOUR, Reading(colour="ir")).colour == "none"


def test_an_overview_has_the_means_of_pixels_with_data_in_the_type_of_the_source():
    image = np.arange(35, dtype=np.uint8).reshape(5, 7)
    valid = np.ones((5, 7), bool)
    valid[0, 0] = False
    valid[:3, 6] = False
    overview, seen = overview_of(image, valid, 3)
    assert overview.dtype == np.uint8 and overview.shape == seen.shape == (2, 3)
    # means of 1 2 7 8 9 14 15 16, then whole squares, and a column of which two rows are left
    assert overview.tolist() == [[9, 11, 0], [26, 28, 30]]
    assert seen.tolist() == [[True, True, False], [True, True, True]]
    floats = np.where(valid, image, np.nan).astype(np.float32)
    means, known = overview_of(floats, None, 3)
    assert means.dtype == np.float32 and means.tolist() == [[9, 11, 0], [25.5, 28.5, 30.5]]
    np.testing.assert_array_equal(known, seen)
    assert overview_of(image, None, 3)[1] is None


@pytest.mark.parametrize("image", [COUNTS, COLOUR, floats_with_holes()])
def test_an_overview_is_that_of_its_bands_of_rows(image):
    whole, seen = overview_of(image, None, STEP)
    bands = [overview_of(image[y : y + 8 * STEP], None, STEP) for y in range(0, HEIGHT, 8 * STEP)]
    np.testing.assert_array_equal(np.concatenate([band for band, _ in bands]), whole)
    assert whole.shape[:2] == (48, 61)
    known = [np.ones(band.shape[:2], bool) if mask is None else mask for band, mask in bands]
    np.testing.assert_array_equal(np.concatenate(known), True if seen is None else seen)


def test_a_scene_has_more_than_five_quarters_of_a_window():
    assert not is_scene(1280, 1024, 1024) and is_scene(1281, 1024, 1024)
    assert not is_scene(40, 30_000, 1024)
    assert overview_step(1024, 900) == 1 and overview_step(900, 1025) == 2


def test_scenes_that_cannot_be_read_are_named():
    with pytest.raises(FlatRange, match="infrared has values from 7.* of which the range -40 to 120"):
        read(COUNTS, COLOUR, Reading("-40:120"))
    with pytest.raises(NoOverlap, match="no pixel has data in both images"):
        read(COUNTS, COLOUR, ir_valid=ROWS < 80, vis_valid=ROWS >= 80)
    with pytest.raises(NoFinitePixels, match="infrared has no pixel with data"):
        read(np.full((HEIGHT, WIDTH), np.nan, np.float32), COLOUR)
    with pytest.raises(TooSmall, match="the images are 7 x 3000 px"):
        read_scene(COUNTS[:1, :20], COLOUR[:1, :20], height=7, width=3000)
    with pytest.raises(SizeMismatch, match="infrared is 48 x 60 px and visible is 48 x 61"):
        read_scene(COUNTS[:48, :60], COLOUR[:48, :61], height=HEIGHT, width=WIDTH)
    with pytest.raises(ValueError, match="overviews are 48 x 60 px .* expected 38 x 49: .* reduced by 5"):
        read_scene(COUNTS[:48, :60], COLOUR[:48, :60], height=HEIGHT, width=WIDTH)
    found = read(COUNTS, COLOUR)
    with pytest.raises(ValueError, match="rows 180 to 244 and columns 0 to 64, expected some of"):
        prepare_window(COUNTS[:64, :64], COLOUR[:64, :64], found, 180, 0)
