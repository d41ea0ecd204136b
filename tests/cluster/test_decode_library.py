"""What the decoding libraries read, against GDAL and Pillow, and files that once gave wrong pixels."""

import io
import struct

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image, ImageOps

from cluster.archive.reasons import BadImage
from cluster.archive.sources.frames import decode_image
from dmnet_core.prepare import prepare_pair
from tests.cluster.test_decode import COLOUR, GREY, WIDE, encode, tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
DEEP = np.dstack([WIDE, WIDE[::-1], WIDE[:, ::-1]])


def decode(data):
    return decode_image(data, max_pixels=10**6)


def file_of(cases, folder, name):
    (path,) = cases.glob(f"{folder}_*/{name}")
    return path.read_bytes()


def by_gdal(data):
    """Return the pixels, (H, W) or (H, W, bands), and the mask of all bands as GDAL has them."""
    with rasterio.MemoryFile(data) as file, file.open() as dataset:
        return np.squeeze(np.moveaxis(dataset.read(), 0, 2)), dataset.dataset_mask() > 0


def gdal_tiff(pixels, mask=None, **options):
    bands = np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), 2, 0)
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    with rasterio.MemoryFile() as file:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with file.open(driver="GTiff", **shape, **options) as new:
                new.write(bands)
                if mask is not None:
                    new.write_mask(mask)
        return file.read()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("02", "ir/geo_f32_nodata9999.tif"),
        ("03", "ir/sparse_f32_None_tile.tif"),
        ("03", "ir/sparse_rgb8_tile.tif"),
        ("03", "ir/sparse_u16_None_tile.tif"),
        ("04", "vis/tif_rgb16_12bit.tif"),
        ("06", "ir/geo_lerc.tif"),
    ],
)
def test_a_tiff_has_the_pixels_that_gdal_reads(cases, folder, name):
    data = file_of(cases, folder, name)
    pixels, mask = by_gdal(data)
    image = decode(data)
    assert image.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(image.pixels, pixels)
    if folder == "02":
        np.testing.assert_array_equal(image.valid, mask)


def test_blocks_that_a_sparse_file_leaves_out_have_no_data(cases):
    for name in ("f32_None", "rgb8", "u16_None"):
        image = decode(file_of(cases, "03", f"ir/sparse_{name}_tile.tif"))
        hidden = image.pixels[~image.valid]
        assert hidden.size and not hidden.any()
        assert image.pixels[image.valid].min() > 0
    pixels = np.full((64, 64), 300, np.uint16)
    pixels[32:, :32] = 0
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    image = decode(gdal_tiff(pixels, compress="lzw", sparse_ok=True, **tiles))
    np.testing.assert_array_equal(image.valid, pixels > 0)
    np.testing.assert_array_equal(image.pixels, pixels)


def test_declared_and_undeclared_borders_leave_the_thermal_levels_whole(cases):
    for name in ("geo_f32_nodata9999", "geo_u16_zborder_notag"):
        ir = decode(file_of(cases, "02", f"ir/{name}.tif"))
        vis = decode(file_of(cases, "02", f"vis/{name}.png"))
        pair = prepare_pair(ir.pixels, vis.pixels, ir_valid=ir.valid)
        assert pair.valid_share == 0.84375
        assert pair.ir_range[0] == pytest.approx(ir.pixels[pair.ir_valid].min(), rel=1e-2)
        assert len(np.unique(np.rint(255 * pair.ir[pair.ir_valid]))) > 120


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_twelve_bits_in_sixteen_keep_their_levels(cases, kind):
    image = decode(file_of(cases, "04", f"vis/{kind}_rgb16_12bit.{kind}"))
    assert (image.pixels.dtype, image.pixels.min(), image.pixels.max()) == (np.uint16, 640, 3296)
    assert len(np.unique(image.pixels)) == 167


def test_fill_bytes_before_a_marker_are_legal(cases):
    data = file_of(cases, "05", "vis/fill.jpg")
    np.testing.assert_array_equal(decode(data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    progressive = encode(COLOUR, "JPEG", progressive=True)
    filled = progressive.replace(b"\xff\xda", b"\xff\xff\xff\xda").replace(b"\xff\xc4", b"\xff\xff\xc4")
    np.testing.assert_array_equal(decode(filled).pixels, decode(progressive).pixels)


def test_bytes_that_a_camera_pads_with_are_skipped_and_others_are_damage():
    data = encode(COLOUR, "JPEG")
    np.testing.assert_array_equal(decode(data[:-2] + bytes(40) + data[-2:]).pixels, decode(data).pixels)
    with pytest.raises(BadImage, match="^unreadable: .*extraneous bytes"):
        decode(data[:-2] + bytes(range(1, 41)) + data[-2:])


def test_the_full_image_is_read_where_a_reduced_one_comes_first(cases):
    assert decode(file_of(cases, "17", "ir/a.tif")).pixels.shape == (96, 128)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:  # the full image below the reduced one, as raw cameras do
        file.write(GREY[::2, ::2], subfiletype=1, subifds=1)
        file.write(GREY, subfiletype=0)
    np.testing.assert_array_equal(decode(buffer.getvalue()).pixels, GREY)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "lzma", "lerc", "packbits", "jpegxl", "jpeg2000"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_lossless_compression_gives_the_pixels(compression, tile):
    deep = WIDE if compression != "packbits" else GREY
    options = {"compressionargs": {"lossless": True}} if compression == "jpegxl" else {}
    if compression == "jpeg2000":
        options = {"compressionargs": {"level": 0, "reversible": True}}
    data = tiff(deep, compression=compression, tile=tile, photometric="minisblack", **options)
    np.testing.assert_array_equal(decode(data).pixels, deep)


def test_a_compression_that_is_not_read_is_named():
    data = bytearray(tiff(GREY, compression="zlib"))
    directory = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, directory)[0]):
        place = directory + 2 + 12 * entry
        if struct.unpack_from("<H", data, place)[0] == 259:
            struct.pack_into("<H", data, place + 8, 32809)
    with pytest.raises(BadImage, match="^wrong_type: a TIFF .*compression THUNDERSCAN.*not read"):
        decode(bytes(data))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rgb_as_gdal_writes_it_and_planes_of_grey_are_colour(dtype):
    pixels = DEEP if dtype == "uint16" else COLOUR
    np.testing.assert_array_equal(decode(gdal_tiff(pixels)).pixels, pixels)
    planes = tiff(np.moveaxis(pixels, 2, 0), photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(decode(planes).pixels, pixels)


def test_more_bands_than_colours_are_refused_and_named():
    with pytest.raises(BadImage, match="^wrong_type: a TIFF of 5 samples"):
        decode(gdal_tiff(np.dstack([COLOUR, GREY, GREY])))


@pytest.mark.parametrize("value", [-9999.0, -3.4028234663852886e38, 0.0])
def test_the_number_that_gdal_declares_has_no_data(value):
    pixels = WIDE.astype(np.float32) + 1
    pixels[3:8, 5:20] = value
    data = gdal_tiff(pixels, nodata=value)
    np.testing.assert_array_equal(decode(data).valid, by_gdal(data)[1])


def test_masks_of_a_dataset_and_of_alpha_say_where_data_are():
    mask = np.ones(GREY.shape, bool)
    mask[:6, :9] = False
    alpha = np.where(mask, 255, 0).astype(np.uint8)
    sources = {
        "internal mask": gdal_tiff(GREY, mask),
        "TIFF": gdal_tiff(np.dstack([COLOUR, alpha]), photometric="RGB", alpha="yes"),
        "PNG": encode(np.dstack([COLOUR, alpha])),
        "WEBP": encode(np.dstack([COLOUR, alpha]), "WEBP", lossless=True),
        "grey PNG": encode(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])),
    }
    for name, data in sources.items():
        np.testing.assert_array_equal(decode(data).valid, mask, err_msg=name)
    for soft in (GREY, np.zeros_like(GREY), np.full_like(GREY, 255)):  # no mask, but something else
        assert decode(encode(np.dstack([COLOUR, soft]))).valid is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_mask_are_turned_as_pillow_turns_them(orientation):
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:6, :9] = 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.dstack([COLOUR, alpha]))
    data = encode(picture, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, upright[..., :3])
    np.testing.assert_array_equal(image.valid, upright[..., 3] > 0)


def test_a_jpeg_in_a_tiff_that_is_larger_than_its_strip_is_refused_before_it_is_decoded():
    small, large = encode(GREY, "JPEG"), encode(np.zeros((4000, 4000), np.uint8), "JPEG")
    data = bytearray(tiff(GREY, compression="jpeg", photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        (offset,), counts = page.dataoffsets, page.tags[279]
        data[offset:] = large
        place = counts.valueoffset
    struct.pack_into("<I", data, place, len(large))
    assert len(small) < len(large)
    with pytest.raises(BadImage, match="larger than its strip"):
        decode(bytes(data))


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def test_the_picture_of_a_radiometric_file_is_said_to_be_one():
    picture = encode(COLOUR, "JPEG")
    raw = segment(0xE3, b"\x20" * 60_000)
    dji = picture[:2] + segment(0xE1, b"Exif\0\0 DJI") + 2 * raw + picture[2:]
    flir = picture[:2] + segment(0xE1, b"FLIR\0\x01\0\0") + picture[2:]
    for data, maker in ((dji, "DJI"), (flir, "FLIR")):
        image = decode(data)
        assert image.note == f"palette picture of a radiometric file ({maker})"
        np.testing.assert_array_equal(image.pixels, decode(picture).pixels)
    assert decode(picture[:2] + segment(0xE1, b"Exif\0\0 DJI") + picture[2:]).note == ""
    with pytest.raises(BadImage, match="^unreadable: a radiometric file whose raw data flyr can't read"):
        decode_image(flir, max_pixels=10**6, temperatures=True)


def test_temperatures_of_a_radiometric_file_go_with_its_raw_counts(shared_data):
    folder = shared_data / "flir_16bit"
    data = (folder / "src_radiometric_jpeg" / "flir_example.jpg").read_bytes()
    kelvin = decode_image(data, max_pixels=10**6, temperatures=True).pixels
    counts = decode((folder / "ir" / "flir_example.png").read_bytes()).pixels
    assert (kelvin.shape, kelvin.dtype) == (counts.shape, np.float32)
    order = np.argsort(counts.ravel(), kind="stable")
    assert (np.diff(kelvin.ravel()[order]) >= -1e-3).all()  # both rise together
    assert 290 < kelvin.min() < kelvin.max() < 340
