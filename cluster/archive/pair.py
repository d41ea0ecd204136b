"""Both images of a pair, read and decoded: what every room does first with a row of the pair index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.archive.reasons import BadImage, explain
from cluster.archive.sources.frames import decode_image
from cluster.archive.sources.image import SourceImage
from cluster.storage import objects
from dmnet_core.prepare import DEFAULT, PreparedPair, Reading, prepare_pair


@dataclass(frozen=True)
class PairImages:
    """The decoded images of one pair, as `decode_image` returns them."""

    ir: SourceImage
    """Infrared pixels."""
    vis: SourceImage
    """Visible pixels; they may differ from the infrared ones in size."""
    num_bytes: int
    """Size of both files together, in bytes."""
    ir_digest: str
    """Digest of the infrared file's bytes, as `digest_of` makes it."""
    vis_digest: str
    """Digest of the visible file's bytes."""

    @property
    def note(self) -> str:
        """What a user should know about the pixels of either side; empty where there is nothing."""
        sides = (("ir", self.ir), ("vis", self.vis))
        return "; ".join(f"{side}: {image.note}" for side, image in sides if image.note)

    def prepared(self, reading: Reading = DEFAULT) -> PreparedPair:
        """Return the pair as the network takes it; errors as in `dmnet_core.prepare.prepare_pair`."""
        return prepare_pair(
            self.ir.pixels, self.vis.pixels, reading, ir_valid=self.ir.valid, vis_valid=self.vis.valid
        )


class BadPair(BadImage):
    """A pair whose infrared or visible image can't be read; the detail begins with `ir:` or `vis:`."""

    def __init__(self, side: str, error: Exception, num_bytes: int) -> None:
        reason, detail = explain(error)
        super().__init__(reason, f"{side}: {detail}")
        self.num_bytes = num_bytes
        """Size of the files that were read before the error, in bytes."""


def digest_of(data: bytes) -> str:
    """Return the digest by which bytes are told from others, also where a copy has another etag."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_images(
    row: Mapping[str, Any], *, max_pixels: int, temperatures: bool = False
) -> PairImages:
    """Read and decode both images of a pair.

    Args:
        row: a row of the pair index; its ir_url and vis_url are read.
        max_pixels: largest height x width that is decoded.
        temperatures: whether a radiometric infrared file gives its temperatures; see `decode_image`.

    Raises:
        BadPair: an image can't be read, whatever the error was.
    """
    images: dict[str, SourceImage] = {}
    digests: dict[str, str] = {}
    num_bytes = 0
    for side in ("ir", "vis"):
        try:
            data = objects.read_bytes(row[f"{side}_url"])
            num_bytes += len(data)
            digests[side] = digest_of(data)
            images[side] = decode_image(
                data, max_pixels=max_pixels, temperatures=temperatures and side == "ir"
            )
        except Exception as error:  # stores and decoders raise errors of their own
            raise BadPair(side, error, num_bytes) from error
    return PairImages(images["ir"], images["vis"], num_bytes, digests["ir"], digests["vis"])
