"""A pair: both sides opened on one grid, by what its row of the index says."""

import io

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine

from cluster.archive.pair import open_pair, read_images
from cluster.archive.reasons import BadPair
from cluster.archive.sources.frames import decode_image
from cluster.archive.sources.source import Window, data_of, digest_of, shrink
from cluster.storage import objects
from tests.cluster.test_decode_library import gdal_tiff
from tests.cluster.test_ranges import requests  # noqa: F401  a fixture

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 256, (150, 200), dtype=np.uint8)
COLOUR = RNG.integers(1, 256, (150, 200, 3), dtype=np.uint8)
WHOLE = {"max_pixels": 10**6}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put_row(folder, ir, vis, **columns):
    """Put two files and return the row of their pair."""
    row = {"pair_id": "a", "ir_url": f"{folder}/ir/a", "vis_url": f"{folder}/vis/a"}
    for side, data in (("ir", ir), ("vis", vis)):
        objects.put_bytes(row[f"{side}_url"], data)
    return row | columns


def test_a_pair_of_frames_is_what_its_files_decode_to(tmp_path):
    ir, vis = png(GREY), png(COLOUR)
    images = read_images(put_row(tmp_path, ir, vis), **WHOLE)
    for side, data in (("ir", ir), ("vis", vis)):
        whole = decode_image(data, max_pixels=10**6)
        image = getattr(images, side)
        np.testing.assert_array_equal(image.pixels, whole.pixels)
        assert image.valid is None and getattr(images, f"{side}_digest") == digest_of(data)
    assert (images.grid, images.note, images.num_bytes) == ("identity", "", len(ir) + len(vis))


def test_a_frame_on_s3_costs_one_request_where_the_index_knows_its_size(s3, requests):  # noqa: F811
    large = RNG.integers(0, 256, (600, 1000, 3), dtype=np.uint8)  # noise: 1.8 MB
    ir, vis = png(large[..., 0]), png(large)
    row = put_row(s3, ir, vis, ir_size=len(ir), vis_size=len(vis))
    requests.clear()
    images = read_images(row, **WHOLE)
    np.testing.assert_array_equal(images.vis.pixels, large)
    assert [method for method, _ in requests] == ["get_object"] * 2
    assert images.num_bytes == len(ir) + len(vis)


def test_one_file_may_be_both_images(tmp_path):
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 4_000_000)}
    data = gdal_tiff(np.dstack([COLOUR, GREY]), tiled=True, blockxsize=64, blockysize=64, **place)
    row = put_row(tmp_path, data, data, ir_bands="4", vis_bands="1,2,3")
    row["vis_url"] = row["ir_url"]
    with open_pair(row, **WHOLE) as pair:
        assert (pair.grid.kind, pair.transform) == ("identity", (10, 0, 500_000, 0, -10, 4_000_000))
        assert "UTM zone 33N" in pair.crs and pair.ir_digest == pair.vis_digest == digest_of(data)
        window = pair.read(Window(31, 57, 64, 77))
        np.testing.assert_array_equal(window.ir.pixels, GREY[31:95, 57:134])
        np.testing.assert_array_equal(window.vis.pixels, COLOUR[31:95, 57:134])
        ir, vis = pair.overview(100)
        assert ir.pixels.shape == (75, 100) and vis.pixels.shape == (75, 100, 3)


def test_an_overview_is_about_the_mean_of_the_warped_pixels_with_data(tmp_path):
    smooth = (np.add.outer(np.arange(150), np.arange(200)) * 0.7).astype(np.uint8)
    row = put_row(
        tmp_path,
        png(smooth),
        png(np.zeros((1500, 1300), np.uint8)),
        ir_to_vis="4 0.1 300 0.2 5 400 0 0 1",
    )
    with open_pair(row, max_pixels=10**7) as pair:
        assert pair.grid.kind == "homography"
        ir, vis = pair.overview(200)
        whole = pair.read()  # of several blocks
        expected = shrink(whole.ir, 8)
        assert ir.pixels.shape == vis.pixels.shape == (188, 163)
        both = data_of(ir) & data_of(expected)
        assert np.abs(ir.pixels[both].astype(int) - expected.pixels[both]).max() <= 2
        assert (data_of(ir) != data_of(expected)).mean() < 0.02  # blocks along the edge
        assert 0.1 < data_of(ir).mean() < 0.9
        part = pair.grid.read_ir(Window(900, 700, 300, 400))  # across four blocks
        np.testing.assert_array_equal(part.pixels, whole.ir.pixels[900:1200, 700:1100])


def test_an_image_of_another_size_is_scaled_where_that_is_allowed(tmp_path):
    row = put_row(tmp_path, png(GREY), png(np.repeat(np.repeat(COLOUR, 2, axis=0), 2, axis=1)))
    with pytest.raises(BadPair, match="size_mismatch: infrared is 150 x 200.*scaled by --resample"):
        read_images(row, **WHOLE)
    images = read_images(row, resample=True, **WHOLE)
    assert images.grid == "scale" and images.ir.pixels.shape == (300, 400) and images.ir.valid is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ir_bands": "x"}, "^wrong_type: ir: ir_bands is 'x', expected the number of one band"),
        ({"vis_bands": "0,1,2"}, "^wrong_type: vis: vis_bands is '0,1,2', expected the number of one"),
        ({"vis_bands": "1,2,4"}, "^wrong_type: vis: 'a' has 3 bands, and 1, 2, 4 asked for"),
        ({"ir_to_vis": "1 0 0 1"}, "^wrong_type: ir_to_vis is '1 0 0 1', expected nine numbers"),
        ({"ir_to_vis": "1 0 0 0 1 0 0 0 x"}, "^wrong_type: ir_to_vis is .* expected nine numbers"),
        ({"ir_to_vis": "1 0 0 0 1 0 0 0 nan"}, "^no_overlap: ir_to_vis is .* singular or not nine"),
        ({"ir_to_vis": "1 0 999 0 1 0 0 0 1"}, "^no_overlap: .* ir_to_vis puts the infrared image out"),
    ],
)
def test_a_column_that_means_nothing_is_named(tmp_path, columns, message):
    with pytest.raises(BadPair, match=message) as caught:
        read_images(put_row(tmp_path, png(GREY), png(COLOUR), **columns), **WHOLE)
    assert caught.value.num_bytes <= len(png(GREY)) + len(png(COLOUR))


def test_a_side_that_ends_early_is_named_when_its_window_is_read(tmp_path):
    data = gdal_tiff(np.tile(GREY, (4, 4)), tiled=True, blockxsize=64, blockysize=64)
    row = put_row(tmp_path, data, data[: len(data) // 2])
    with open_pair(row, max_pixels=10**5) as pair:
        pair.grid.read_ir(Window(500, 700, 100, 100))
        with pytest.raises(BadPair, match="^(truncated|unreadable): vis: "):
            pair.grid.read_vis(Window(500, 700, 100, 100))
        with pytest.raises(BadPair, match="^(truncated|unreadable): vis: "):
            pair.overview(64)


def test_a_pair_of_more_pixels_than_allowed_is_read_by_windows_alone(tmp_path):
    data = gdal_tiff(np.tile(GREY, (4, 4)), tiled=True, blockxsize=64, blockysize=64)
    row = put_row(tmp_path, data, data)
    with pytest.raises(BadPair, match="too_many_pixels: vis: 600 x 800 px"):
        read_images(row, max_pixels=10**5)
    with open_pair(row, max_pixels=10**5) as pair:
        np.testing.assert_array_equal(pair.read(Window(450, 600, 150, 200)).ir.pixels, GREY)
