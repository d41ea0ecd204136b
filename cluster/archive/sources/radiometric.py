"""Radiometric JPEGs of thermal cameras: a palette picture, with the sensor's raw data in its segments.

The picture is what every viewer shows, 8 bits in colours that stand for temperatures of that picture
alone. The temperatures are in the raw data: of FLIR's format the package flyr reads them, which is an
optional extra of this project; of DJI's only DJI's own Thermal SDK does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cluster.archive.reasons import BadImage
from cluster.archive.sources.completeness import JPEG_SCAN, segments
from cluster.archive.sources.image import SourceImage, check_pixels
from cluster.storage import objects

FLIR_SEGMENT = 0xE1
DJI_SEGMENTS = (0xE3, 0xE4, 0xE5)
DJI_BYTES = 2**16
"""Least size of raw data in DJI's segments; a sensor of 256 x 192 gives 96 kB."""


def maker_of(data: bytes) -> str:
    """Return FLIR or DJI where a file is a radiometric JPEG of that maker, else an empty text."""
    if not data.startswith(b"\xff\xd8\xff"):
        return ""
    raw_bytes, is_dji = 0, False
    for marker, _, body in segments(data):
        if marker == FLIR_SEGMENT and body.startswith(b"FLIR\0"):
            return "FLIR"
        is_dji |= b"DJI" in body
        raw_bytes += len(body) if marker in DJI_SEGMENTS else 0
        if marker == JPEG_SCAN:
            break
    return "DJI" if is_dji and raw_bytes >= DJI_BYTES else ""


def note_of(maker: str) -> str:
    """Return what is said of a pair whose side is the picture of a radiometric file."""
    return f"palette picture of a radiometric file ({maker})" if maker else ""


def count_pictures(file_urls: Iterable[str]) -> int:
    """Return how many files are palette pictures of radiometric files; one that is not read is none."""

    def is_picture(url: str) -> bool:
        try:
            return bool(maker_of(objects.read_bytes(url)))
        except (OSError, ValueError):
            return False

    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        return sum(pool.map(is_picture, file_urls))


def read_temperatures(data: bytes, *, max_pixels: int) -> SourceImage:
    """Return the temperatures of a FLIR file in kelvin, (H, W) float32.

    Raises:
        BadImage: the file's raw data cannot be read, or flyr is not installed.
    """
    try:
        import flyr
    except ImportError as error:
        raise BadImage(
            "failed", "flyr is not installed on this worker, expected it for --temperatures: install "
            "the project's extra, pip install 'dmnet-archive[flir]'"
        ) from error  # fmt: skip
    try:
        kelvin = np.asarray(flyr.unpack(io.BytesIO(data)).kelvin, dtype=np.float32)
    # A parser of damaged bytes may raise any error.
    except Exception as error:
        raise BadImage(
            "unreadable",
            f"a radiometric file whose raw data flyr can't read ({type(error).__name__}: {error}), "
            "expected FLIR's format: fuse its picture, without --temperatures",
        ) from error
    check_pixels(kelvin.shape[1], kelvin.shape[0], max_pixels)
    return SourceImage(kelvin)
