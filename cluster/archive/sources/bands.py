"""Which bands of a file make the picture, grey or RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster.archive.reasons import BadImage
from cluster.archive.sources.image import Pixels
from cluster.storage.urls import redact_url


def check_bands(url: str, num_bands: int, bands: Sequence[int]) -> None:
    """Raise BadImage where a file has not the bands that were asked for.

    Args:
        url: of the file.
        num_bands: number of bands that it has.
        bands: numbers of the bands asked for, from 1.
    """
    if len(bands) in (1, 3) and all(1 <= band <= num_bands for band in bands):
        return
    named = redact_url(url).rpartition("/")[2]
    raise BadImage(
        "wrong_type",
        f"{named!r} has {num_bands} band{'s' if num_bands != 1 else ''}, and "
        f"{', '.join(map(str, bands)) or 'none'} asked for, expected one band for grey or three for red, "
        f"green and blue, each from 1 to {num_bands}: correct the bands",
    )


def picture_bands(url: str, num_bands: int, has_alpha: bool) -> tuple[int, ...]:
    """Return the bands of a file that make its picture: the first, or the first three.

    Raises:
        BadImage: the file has more bands than a picture.
    """
    colours = num_bands - has_alpha
    if colours > 3:
        raise BadImage(
            "wrong_type",
            f"{redact_url(url).rpartition('/')[2]!r} has {num_bands} bands, expected grey or RGB: choose "
            "one band or three of them",
        )
    return (1, 2, 3) if colours == 3 else (1,)


def as_picture(values: Pixels) -> Pixels:
    """Return (H, W) of one or two bands, (H, W, 3) of more."""
    return np.ascontiguousarray(values[..., 0] if values.shape[2] < 3 else values[..., :3])
