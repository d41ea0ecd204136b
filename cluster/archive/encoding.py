"""Fused images as the bytes of an image file; `cog.py` writes those that need not fit into memory."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

EXTENSIONS = {"png": "png", "jpeg": "jpg", "tiff": "tif", "cog": "tif"}
"""Extension of the files of each format."""
DTYPES = {
    "png": ("uint8", "uint16"),
    "jpeg": ("uint8",),
    "tiff": ("uint8", "uint16", "float32"),
    "cog": ("uint8", "uint16", "float32"),
}
"""Types of pixels that each format holds."""


def encode_image(pixels: NDArray[np.generic], image_format: str, quality: int) -> bytes:
    """Return an image as the bytes of a file, the same for the same pixels.

    Args:
        pixels: (H, W) grey or (H, W, 3) RGB, of one of the DTYPES of the format.
        image_format: png, jpeg or tiff; png and tiff lose nothing.
        quality: quality of a JPEG, from 1 to 100; of no meaning for other formats.

    Raises:
        ValueError: the format does not hold such pixels.
    """
    allowed = DTYPES[image_format]
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if str(pixels.dtype) not in allowed or not is_image:
        raise ValueError(
            f"the image is {pixels.dtype} of shape {pixels.shape}, expected {' or '.join(allowed)} and "
            f"(H, W) or (H, W, 3) for {image_format}: export it in another format"
        )
    pixels = np.ascontiguousarray(pixels)
    if image_format == "png":
        return bytes(imagecodecs.png_encode(pixels))
    if image_format == "jpeg":
        colour = pixels.ndim == 3
        encoded = simplejpeg.encode_jpeg(
            pixels if colour else pixels[:, :, None],
            quality=quality,
            colorspace="RGB" if colour else "GRAY",
            colorsubsampling="444" if colour else "Gray",
        )
        return bytes(encoded)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        compression="adobe_deflate",
        predictor=True,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()
