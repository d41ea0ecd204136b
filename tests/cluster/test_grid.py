"""The grid of a pair: windows of a warped image fit together, and have the numbers they must have."""

import re

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform

from cluster.archive.grid import make_grid
from cluster.archive.reasons import BadImage
from cluster.archive.sources.image import SourceImage
from cluster.archive.sources.open import open_source
from cluster.archive.sources.source import DecodedSource, Window, data_of
from tests.cluster.test_decode_library import gdal_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(0)
UTM_33 = rasterio.crs.CRS.from_epsg(32633).to_wkt()
UTM_34 = rasterio.crs.CRS.from_epsg(32634).to_wkt()
TURNED = (0.9, -0.2, 40.3, 0.25, 1.1, -12.7, 1e-4, -2e-4, 1.0)
"""A homography that turns, scales, shifts and tilts."""


def from_origin(x, y, size_x, size_y):
    return Affine(size_x, 0, x, 0, -size_y, y)


def source(pixels, valid=None, **place):
    pixels = np.asarray(pixels)
    if "transform" in place:
        place["transform"] = tuple(place["transform"])[:6]
    return DecodedSource(
        url="a",
        height=pixels.shape[0],
        width=pixels.shape[1],
        num_bands=1,
        dtype=pixels.dtype.name,
        is_colour=pixels.ndim == 3,
        image=SourceImage(pixels, valid),
        **place,
    )


def ramp(height, width, x0=0.0, y0=0.0, by_x=1.0, by_y=1.0):
    """Return an image whose value at a pixel's centre is x0 + by_x * x + y0 + by_y * y, y times 1000."""
    y, x = np.mgrid[:height, :width] + 0.5
    return (x0 + by_x * x + 1000 * (y0 + by_y * y)).astype(np.float32)


def whole(grid):
    return grid.read_ir(Window(0, 0, grid.height, grid.width))


def assert_windows_fit(grid):
    """Windows of all kinds, at every edge, equal the same part of the whole image exactly."""
    image = whole(grid)
    height, width = grid.height, grid.width
    windows = [Window(0, 0, 1, 1), Window(height - 1, width - 1, 1, 1), Window(3, 5, height - 7, 17)]
    windows += [Window(y, x, 37, 29) for y in (0, 50, height - 37) for x in (0, 61, width - 29)]
    for window in windows:
        part = grid.read_ir(window)
        place = np.s_[window.y : window.y + window.height, window.x : window.x + window.width]
        np.testing.assert_array_equal(part.pixels, image.pixels[place])
        np.testing.assert_array_equal(data_of(part), data_of(image)[place])
    return image


def test_images_of_one_size_are_read_as_they_are():
    ir, vis = source(ramp(100, 120)), source(np.zeros((100, 120, 3), np.uint8))
    grid = make_grid(ir, vis)
    assert (grid.kind, grid.height, grid.width) == ("identity", 100, 120)
    np.testing.assert_array_equal(whole(grid).pixels, ir.image.pixels)
    place = {"crs": UTM_33, "transform": from_origin(500_000, 4_000_000, 5, 5)}
    assert make_grid(source(ramp(9, 9), **place), source(ramp(9, 9), **place)).kind == "identity"
    assert make_grid(source(ramp(9, 9), **place), source(ramp(9, 9))).kind == "identity"


@pytest.mark.parametrize("factor", [2, 0.5, 0.25, 1.6])
def test_a_ramp_that_is_scaled_stays_a_ramp(factor):
    """Coarser pixels are interpolated, finer ones averaged; only the outermost ones lack a neighbour."""
    vis = source(np.zeros((200, 240), np.uint8))
    ir = source(ramp(round(200 * factor), round(240 * factor)))
    grid = make_grid(ir, vis, resample=True)
    assert grid.kind == "scale" and grid.scale == pytest.approx(factor)
    image = assert_windows_fit(grid)
    assert image.valid is None
    inner = np.s_[4:-4, 4:-4]
    # float32 has seven digits
    expected = ramp(200, 240, by_x=factor, by_y=factor)
    np.testing.assert_allclose(image.pixels[inner], expected[inner], rtol=1e-6)


def test_maps_of_one_kind_are_shifted_and_only_their_common_part_has_data():
    place = from_origin(500_000, 4_000_000, 10, 10)
    vis = source(np.zeros((100, 120), np.uint8), crs=UTM_33, transform=place)
    finer = from_origin(500_205, 3_999_900, 2.5, 2.5)
    grid = make_grid(source(ramp(200, 240), crs=UTM_33, transform=finer), vis)
    assert (grid.kind, grid.scale) == ("georeferenced", pytest.approx(4))
    image = assert_windows_fit(grid)
    there = data_of(image)
    rows, columns = np.nonzero(there)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 59, 20, 80)
    expected = ramp(100, 120, x0=-82, y0=-40, by_x=4, by_y=4)
    np.testing.assert_allclose(image.pixels[12:58, 22:78], expected[12:58, 22:78], rtol=1e-6)
    by_pixels = from_origin(500_000 - 30, 4_000_000 + 20, 10, 10)  # whole pixels: nothing is interpolated
    numbers = RNG.integers(0, 65536, (100, 120)).astype(np.uint16)
    moved = whole(make_grid(source(numbers, crs=UTM_33, transform=by_pixels), vis))
    np.testing.assert_array_equal(moved.pixels[:98, :117], numbers[2:, 3:])
    assert moved.valid.sum() == 98 * 117


def test_a_homography_puts_each_pixel_where_it_says():
    ir, vis = source(ramp(150, 200)), source(np.zeros((220, 260), np.uint8))
    grid = make_grid(ir, vis, ir_to_vis=TURNED)
    image = assert_windows_fit(grid)
    assert grid.kind == "homography" and 0.2 < data_of(image).mean() < 0.8
    y, x = np.mgrid[:220, :260]
    back = np.linalg.inv(np.reshape(TURNED, (3, 3))) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    ir_x, ir_y = (numbers.reshape(220, 260) for numbers in back[:2] / back[2])
    inner = (ir_x > 0) & (ir_x < 199) & (ir_y > 0) & (ir_y < 149)
    assert data_of(image)[inner].all()
    expected = ir_x + 0.5 + 1000 * (ir_y + 0.5)
    np.testing.assert_allclose(image.pixels[inner], expected[inner], rtol=1e-6)
    outside = (ir_x < -0.6) | (ir_x > 199.6) | (ir_y < -0.6) | (ir_y > 149.6)
    assert not data_of(image)[outside].any()
    opposite = make_grid(ir, vis, ir_to_vis=[-number for number in TURNED])
    np.testing.assert_array_equal(whole(opposite).pixels, image.pixels)  # only ratios count


def test_what_lies_behind_the_camera_has_no_data():
    """A steep view: the horizon is at row 100, and the formula would put pixels above it too."""
    steep = np.linalg.inv([[1, 0, 0], [0, 1, 0], [0, 0.01, -1.0]])
    ir, vis = source(ramp(400, 200)), source(np.zeros((300, 200), np.uint8))
    image = assert_windows_fit(make_grid(ir, vis, ir_to_vis=steep.ravel()))
    assert not data_of(image)[:100].any() and data_of(image)[150:].any()


def test_the_grid_of_two_zones_of_utm_goes_by_the_places_on_the_earth(tmp_path):
    """Where an infrared pixel lies on the earth is the visible pixel that it is read at."""
    vis_place = from_origin(700_000, 5_000_000, 10, 10)
    (left,), (top,) = transform(UTM_33, UTM_34, [701_000.0], [4_999_400.0])
    ir_place = from_origin(left, top, 25, 25)
    ir = source(ramp(80, 90), crs=UTM_34, transform=ir_place)
    vis = source(np.zeros((300, 330), np.uint8), crs=UTM_33, transform=vis_place)
    grid = make_grid(ir, vis)
    image = assert_windows_fit(grid)
    there = data_of(image)
    assert grid.kind == "georeferenced" and 0.3 < there.mean() < 0.7
    rows, columns = np.nonzero(there)
    east, north = transform(
        UTM_33, UTM_34, 700_000 + 10 * (columns + 0.5), 5_000_000 - 10 * (rows + 0.5)
    )
    ir_x, ir_y = (np.array(east) - left) / 25, (top - np.array(north)) / 25
    inner = (ir_x > 0.5) & (ir_x < 89.5) & (ir_y > 0.5) & (ir_y < 79.5)
    expected = ir_x + 1000 * ir_y
    # a thousandth of a row, which counts 1000, and what float32 rounds
    np.testing.assert_allclose(image.pixels[rows, columns][inner], expected[inner], atol=1.0, rtol=0)


def test_windows_of_files_on_two_maps_fit_with_their_masks(tmp_path):
    pixels = RNG.integers(1, 60_000, (300, 280)).astype(np.uint16)
    pixels[100:140, 90:130] = 0
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    vis_place = from_origin(700_000, 5_000_000, 10, 10)
    (left,), (top,) = transform(UTM_33, UTM_34, [700_700.0], [4_999_600.0])
    ir_place = from_origin(left, top, 9, 9)
    (tmp_path / "ir.tif").write_bytes(
        gdal_tiff(pixels, nodata=0, crs="EPSG:32634", transform=ir_place, **tiles)
    )
    colour = RNG.integers(0, 255, (260, 333, 3)).astype(np.uint8)
    (tmp_path / "vis.tif").write_bytes(gdal_tiff(colour, crs="EPSG:32633", transform=vis_place, **tiles))
    with open_source(str(tmp_path / "ir.tif"), max_pixels=10**5) as ir:
        with open_source(str(tmp_path / "vis.tif"), max_pixels=10**5) as vis:
            grid = make_grid(ir, vis)
            image = assert_windows_fit(grid)
            assert image.pixels.dtype == np.uint16
            assert 0.2 < data_of(image).mean() < 0.9
            assert image.pixels[data_of(image)].min() > 0  # no 0 of the border has been mixed in
            np.testing.assert_array_equal(grid.read_vis(Window(9, 8, 70, 60)).pixels, colour[9:79, 8:68])


def test_a_drone_s_thermal_image_comes_onto_its_visible_one(shared_data):
    folder = shared_data / "uav_facade"
    numbers = re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", (folder / "homography.txt").read_text())
    ir_to_vis = np.array([float(number) for number in numbers[:9]])
    with open_source(str(folder / "ir" / "DJI_0977.jpg"), max_pixels=10**8) as ir:
        with open_source(str(folder / "vis" / "DJI_0977.JPG"), max_pixels=10**8) as vis:
            grid = make_grid(ir, vis, ir_to_vis=ir_to_vis)
            x, y = 320, 200  # an infrared pixel, and where it goes by the file's numbers
            to_x, to_y, depth = ir_to_vis.reshape(3, 3) @ [x, y, 1]
            at = Window(round(to_y / depth) - 40, round(to_x / depth) - 40, 81, 81)
            image = grid.read_ir(at)
            assert image.valid is None
            around = ir.read(Window(y - 1, x - 1, 3, 3)).pixels.astype(int)
            assert around.min() - 1 <= image.pixels[40, 40].min() <= around.max() + 1
            corner = grid.read_ir(Window(0, 0, 64, 64))
            assert not corner.valid.any() and corner.pixels.shape[:2] == (64, 64)
            larger = grid.read_ir(Window(at.y - 50, at.x - 70, 200, 210))
            np.testing.assert_array_equal(larger.pixels[50:131, 70:151], image.pixels)


def test_values_without_data_are_not_mixed_into_their_neighbours():
    pixels = np.full((50, 60), 100, np.float32)
    pixels[20:30, 20:30] = np.nan
    pixels[:5] = -9999
    valid = np.ones(pixels.shape, bool)
    valid[:5] = False
    for factor in (1.7, 3.0, 0.4):
        vis = source(np.zeros((round(50 * factor), round(60 * factor)), np.uint8))
        image = whole(make_grid(source(pixels, valid), vis, resample=True))
        there = data_of(image)
        assert set(np.unique(image.pixels[there])) == {100.0}
        assert not there.all() and there.mean() > 0.8


def test_what_cannot_be_brought_together_says_why_and_what_to_do():
    ir, vis = source(ramp(100, 120)), source(np.zeros((200, 240), np.uint8))
    with pytest.raises(BadImage, match="size_mismatch: infrared is 100 x 120 px.*image scaled"):
        make_grid(ir, vis)
    with pytest.raises(BadImage, match="size_mismatch: .*register the pair, or give its homography"):
        make_grid(ir, source(np.zeros((200, 260), np.uint8)), resample=True)
    place = {"crs": UTM_33, "transform": from_origin(500_000, 4_000_000, 5, 5)}
    with pytest.raises(BadImage, match="size_mismatch: .*give the infrared image a CRS and a transform"):
        make_grid(ir, source(np.zeros((200, 260), np.uint8), **place))
    far = {"crs": UTM_34, "transform": from_origin(500_000, 4_000_000, 5, 5)}
    with pytest.raises(BadImage, match="no_overlap: .*put them in different places: correct these"):
        make_grid(source(ramp(100, 120), **far), source(np.zeros((200, 260), np.uint8), **place))
    with pytest.raises(BadImage, match="no_overlap: .*ir_to_vis puts the infrared image outside"):
        make_grid(ir, vis, ir_to_vis=(1, 0, 5000, 0, 1, 0, 0, 0, 1))
    for singular in ((1, 2, 3, 2, 4, 6, 0, 0, 1), (0,) * 9, (1, 0, 0, 0, 1, 0, 0, 0, np.nan), (1, 2)):
        with pytest.raises(BadImage, match="no_overlap: ir_to_vis is .*, which is singular or not nine"):
            make_grid(ir, vis, ir_to_vis=singular)


def test_a_small_image_in_a_large_one_is_found():
    place = from_origin(500_000, 4_000_000, 1, 1)
    vis = source(np.zeros((3000, 3000), np.uint8), crs=UTM_33, transform=place)
    inside = from_origin(501_234, 3_998_877, 1, 1)
    grid = make_grid(source(ramp(9, 11), crs=UTM_33, transform=inside), vis)
    image = grid.read_ir(Window(1120, 1230, 20, 20))
    assert data_of(image).sum() == 99
    np.testing.assert_array_equal(image.pixels[3:12, 4:15], ramp(9, 11))
