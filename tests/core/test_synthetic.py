"""Generated scenes: repeatable, of the asked size, and with people that only infrared shows."""

import numpy as np
import pytest

from dmnet_core.synthetic import KINDS, make_scene, render_scene
from dmnet_core.synthetic.canvas import Canvas, blur, value_noise

LUMA = np.array([0.299, 0.587, 0.114])


def contrast_of_people(image, people):
    """Mean grey level of the people minus that of a ring 3 to 8 pixels around them."""
    near = blur(people.astype(np.float32), 4.0) > 0.02
    ring = near & ~(blur(people.astype(np.float32), 1.5) > 0.01)
    return image[people].mean() - image[ring].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_pixels_and_another_seed_does_not(kind):
    first, again = render_scene(kind, 5, 120, 160), render_scene(kind, 5, 120, 160)
    other = render_scene(kind, 6, 120, 160)
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != different).mean() > 0.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 211), (300, 150)])
def test_a_scene_has_the_asked_size_and_eight_bits(kind, height, width):
    ir, vis = render_scene(kind, 0, height, width)
    assert (ir.shape, ir.dtype) == ((height, width), np.uint8)
    assert (vis.shape, vis.dtype) == ((height, width, 3), np.uint8)
    assert ir.std() > 5 and vis.std() > 5  # neither is blank


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_people_are_bright_in_infrared_and_hardly_differ_in_the_visible(kind, seed):
    scene = make_scene(kind, seed, 480, 640)
    assert scene.people.sum() > 50
    in_ir = contrast_of_people(scene.ir.astype(float), scene.people)
    in_vis = contrast_of_people(scene.vis @ LUMA, scene.people)
    # more than a quarter of the grey scale, against at most a tenth of it
    assert in_ir > 64
    assert abs(in_vis) < 26


def test_night_is_dark_in_the_visible_and_day_is_not():
    night, day = (render_scene(kind, 1, 240, 320)[1].mean() for kind in ("night_road", "aerial"))
    assert night < 70 < day


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sea", 0, 100, 100), "scene kind is 'sea', expected one of night_road, aerial"),
        (("aerial", -1, 100, 100), "scene seed is -1, expected 0 or more"),
        (("aerial", 0, 100, 63), "scene size is 100 x 63 px .* expected 64 or more"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments)


def test_an_antialiased_polygon_covers_its_area():
    canvas = Canvas(40, 50)
    canvas.polygon([(5.25, 7.5), (5.25, 40.1), (30.75, 33.2), (30.75, 12.9)], ir=1.0)
    area = 25.5 * (32.6 + 20.3) / 2
    # a slanted edge's linear ramp is exact only on average: a hundredth of the area
    assert canvas.ir.sum() == pytest.approx(area, rel=0.01)


def test_blur_keeps_a_flat_image_and_value_noise_is_centred():
    flat = np.full((30, 41), 0.3, np.float32)
    np.testing.assert_allclose(blur(flat, 3.0), flat, atol=1e-6)  # float32 rounding
    noise = value_noise(np.random.default_rng(0), 256, 256, cell=8)
    assert abs(noise.mean()) < 0.05 and 0.2 < noise.std() < 0.6
