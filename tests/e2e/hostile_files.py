"""Image files as no camera should write them, byte by byte, and the pixels that are in them."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from dmnet_core.synthetic import render_scene
from tests.e2e.archives import png

IR, VIS = (image[:48, :64].copy() for image in render_scene("aerial", 0, 64, 64))
"""(48, 64) uint8 and (48, 64, 3) uint8."""
GREY = VIS[..., 1].copy()
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 65536, GREY.shape, dtype=np.uint16)
FLOATS = (DEEP / 100).astype(np.float32)
COUNTS = (29_000 + 1.5 * IR.astype(np.float64)).round().astype(np.uint16)
"""Thermal counts in a band of 383 of 65536."""
JUNK = b"junk" * 2500


def encode(pixels, kind, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(pixels=VIS, **options):
    return encode(pixels, "JPEG", **{"quality": 90, **options})


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", **options})
    return buffer.getvalue()


def shown(data, mode="RGB"):
    """Return the pixels of a lossy file, as Pillow has them."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def png_file(width, height, bits, colour, packed):
    """Return a PNG by its parts, every checksum right."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def giant_png(side=30_000):
    """Return a whole one-bit PNG of side x side pixels, 110 kB that unpack to 112 MB."""
    deflate = zlib.compressobj(1)
    rows = bytes(100 * (1 + side // 8))
    parts = [deflate.compress(rows) for _ in range(side // 100)]
    return png_file(side, side, 1, 0, b"".join([*parts, deflate.flush()]))


def half_png():
    rows = b"".join(b"\0" + row.tobytes() for row in GREY[:24])
    return png_file(64, 48, 8, 0, zlib.compress(rows))


def deep_colour_png():
    rows = b"".join(b"\0" + np.repeat(row[:, None], 3, axis=1).astype(">u2").tobytes() for row in DEEP)
    return png_file(64, 48, 16, 2, zlib.compress(rows))


def counts_png(channels, colour):
    """Return thermal counts as PNG, the same in each channel, alpha full."""
    alpha = [np.full_like(COUNTS, 65535)] if colour in (4, 6) else []
    pixels = np.stack([COUNTS] * channels + alpha, axis=2).astype(">u2")
    return png_file(64, 48, 16, colour, zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels)))


def wrong_checksum():
    data = bytearray(png(VIS))
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of the checksum of the pixels before it
    return bytes(data)


def few_strips():
    """Return a TIFF of six strips whose directory lists three."""
    data = bytearray(tiff(DEEP, rowsperstrip=8))
    directory = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, directory)[0]):
        place = directory + 2 + 12 * entry
        if struct.unpack_from("<H", data, place)[0] in (273, 279):
            struct.pack_into("<I", data, place + 4, 3)
    return bytes(data)


def animation(kind):
    frames = [Image.fromarray(frame) for frame in (GREY, 255 - GREY)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def with_holes():
    pixels = FLOATS.copy()
    pixels[3, 4], pixels[5, 6], pixels[7, 8] = np.nan, np.inf, -np.inf
    return pixels
