"""Image bytes of every kind: the right pixels, or the right reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from cluster.archive.reasons import REASONS, BadImage
from cluster.archive.sources.frames import decode_image

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, step along columns and along rows of each pass of an interlaced PNG."""
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
WIDE = np.random.default_rng(2).integers(0, 65536, (20, 30), dtype=np.uint16)
CUT = "^(truncated|unreadable): "
"""What an error about a file that is not whole begins with."""


def encode(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def decode(data, max_pixels=10**6):
    return decode_image(data, max_pixels=max_pixels).pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_eight_bits_come_as_they_are(kind, pixels):
    np.testing.assert_array_equal(decode(encode(pixels, kind)), pixels)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_deep_tiffs_keep_their_values(byteorder, dtype):
    pixels = (WIDE.astype(np.float64) / 4 - (0 if dtype == "uint16" else 5000)).astype(dtype)
    decoded = decode(tiff(pixels, byteorder=byteorder, photometric="minisblack"))
    np.testing.assert_array_equal(decoded.astype(np.float64), pixels.astype(np.float64))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_colour_of_sixteen_bits_comes_whole(byteorder, planes):
    deep = np.dstack([WIDE, WIDE[::-1], WIDE[:, ::-1]])
    stored = deep if planes == "contig" else np.moveaxis(deep, 2, 0)
    decoded = decode(tiff(stored, photometric="rgb", planarconfig=planes, byteorder=byteorder))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, deep)


def test_the_lowest_count_may_be_white():
    decoded = decode(tiff(WIDE, photometric="miniswhite"))
    np.testing.assert_array_equal(decoded, 65535 - WIDE)


def test_sixteen_bit_grey_png_keeps_its_counts():
    decoded = decode(encode(Image.fromarray(WIDE)))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, WIDE)


def test_palette_one_bit_alpha_and_cmyk_become_grey_or_colour():
    palette = Image.fromarray(COLOUR).quantize(16)
    np.testing.assert_array_equal(decode(encode(palette)), np.asarray(palette.convert("RGB")))
    one_bit = Image.fromarray(GREY).convert("1")
    np.testing.assert_array_equal(decode(encode(one_bit)), np.asarray(one_bit.convert("L")))
    alpha = np.dstack([COLOUR, GREY])
    np.testing.assert_array_equal(decode(encode(alpha)), COLOUR)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY)] * 2)
    np.testing.assert_array_equal(decode(encode(grey_alpha)), GREY)
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    assert decode(encode(cmyk, "JPEG")).shape == (20, 30, 3)


def test_the_content_decides_and_orientation_is_applied():
    turned = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    data = encode(turned, "JPEG", exif=exif, quality=100)
    assert decode(data).shape == (30, 20)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_whole_jpeg_is_read_and_a_cut_one_never(options):
    data = encode(COLOUR, "JPEG", **options)
    assert decode(data).shape == COLOUR.shape
    assert decode(data + b"trailing junk").shape == COLOUR.shape
    for length in (2, len(data) // 2, len(data) - 1):
        with pytest.raises(BadImage, match="^truncated: "):
            decode(data[:length])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_cut_jpeg_with_an_end_mark_is_never_read(options):
    data = encode(COLOUR, "JPEG", quality=95, **options)
    assert decode(data).shape == COLOUR.shape
    first_scan = data.index(b"\xff\xda")
    # a byte from the end may hold nothing but the bits that fill it up
    for length in range(first_scan, len(data) - 4, 7):
        with pytest.raises(BadImage, match="^(truncated|unreadable): "):
            decode(data[:length] + b"\xff\xd9")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_no_beginning_of_a_file_is_read_as_the_whole(kind):
    data = encode(COLOUR, kind)
    assert decode(data).shape == COLOUR.shape
    lengths = range(1, len(data), 11)
    if kind == "TIFF":  # its directory lies behind the pixels, and padding behind that
        lengths = range(1, len(data) - 64, 11)
    for length in lengths:
        with pytest.raises(BadImage, match="^(truncated|unreadable): "):
            decode(data[:length])


def test_a_png_whose_pixels_end_early_is_truncated_and_an_interlaced_one_is_whole():
    for interlace, rows in ((0, 20), (1, 20), (0, 19), (1, 19)):
        passes = ADAM7 if interlace else ((0, 0, 1, 1),)
        kept = GREY[:rows]
        lines = [
            b"\0" + line.tobytes()
            for left, top, step_x, step_y in passes
            for line in kept[top::step_y, left::step_x]
        ]
        whole = png_chunks(30, rows, 8, b"".join(lines), interlace)
        np.testing.assert_array_equal(decode(whole), kept)
        with pytest.raises(BadImage, match="^truncated: .*Not enough image data"):
            decode(png_chunks(30, rows, 8, b"".join(lines)[:-1], interlace))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_every_depth_and_order_of_tiff_is_itself(byteorder, options):
    for dtype in "int8 uint8 int16 uint16 int32 uint32 float16 float32 float64 uint64".split():
        kind = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
        pixels = (WIDE / 65536 * min(float(kind.max), 1e3)).astype(dtype)
        pixels[0, :2] = kind.min, kind.max
        data = tiff(pixels, byteorder=byteorder, photometric="minisblack", **options)
        decoded = decode(data)
        wanted = dtype if dtype in ("uint8", "uint16") else "float32"
        assert decoded.dtype == wanted
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(decoded, pixels.astype(wanted))


@pytest.mark.parametrize("length", [4, 30, 0.5, -1])
def test_a_cut_png_or_tiff_is_never_read(length):
    for data in (encode(GREY), encode(GREY, "TIFF"), tiff(WIDE), encode(GREY, "BMP")):
        cut = int(length * len(data)) if isinstance(length, float) else length
        with pytest.raises(BadImage, match="^(truncated|unreadable): "):
            decode(data[:cut])


def test_a_wrong_checksum_is_unreadable():
    data = bytearray(encode(GREY))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(BadImage, match="^unreadable: .*incorrect data check"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>403</html>", "wrong_type"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "wrong_type"),
        (encode(GREY, "GIF"), "wrong_type"),
        (b"%PDF-1.7", "wrong_type"),
        (b"\0" * 100, "wrong_type"),
        (b"\x80\x04\x95", "wrong_type"),
    ],
)
def test_what_is_no_image_has_its_reason(data, reason):
    with pytest.raises(BadImage, match=f"^{reason}: ") as caught:
        decode(data)
    assert caught.value.reason == reason
    assert reason in REASONS


def png_chunks(width, height, bits, rows, interlace=0):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_damaged_bytes_give_an_image_or_a_printable_reason():
    random = np.random.default_rng(3)
    files = [encode(COLOUR, kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")] + [tiff(WIDE)]
    outcomes = set()
    for number in range(1200):
        data = bytearray(files[number % len(files)])
        for place in random.integers(0, len(data) if number % 2 else 100, 3):
            data[place] = random.integers(256)
        try:
            outcomes.add(decode(bytes(data)).dtype)
        except BadImage as bad:
            outcomes.add(bad.reason)
            assert bad.detail.isprintable()
    assert {"unreadable", "truncated", np.dtype(np.uint8)} <= outcomes


@pytest.mark.parametrize(("width", "height"), [(30000, 30000), (2**31 - 1, 1), (1001, 1000)])
def test_too_many_pixels_are_refused_from_the_header(width, height):
    told = f"^too_many_pixels: {height} x {width} px .* expected at most 1000000"
    with pytest.raises(BadImage, match=told):
        decode(png_chunks(width, height, 1, b""))


def test_exactly_the_limit_is_decoded():
    assert decode(encode(GREY), max_pixels=600).shape == (20, 30)
