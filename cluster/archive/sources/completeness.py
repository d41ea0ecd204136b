"""Whether an image file is complete: the checks of `decode_image` that Pillow does not make.

Pillow fills missing pixels with black or grey, without an error, where a PNG's data end early, where a
JPEG was cut and given an end mark, or where a TIFF lists too few strips; and it ignores the checksums
of a PNG's pixels. Each format has its own check here, and none decodes a pixel.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

Defect = tuple[str, str]
"""A reason of cluster.archive.reasons.REASONS, and its detail."""

PNG_SIGNATURE_BYTES = 8
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, step along columns and along rows of each pass of an interlaced PNG."""
INFLATE_BYTES = 1 << 20

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)  # none within a scan's data
JPEG_START, JPEG_END, JPEG_SCAN, JPEG_PROGRESSIVE = 0xD8, 0xD9, 0xDA, 0xC2
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
JPEG_FILLER = b"\xaa\x5b\xd6\x6d" * 32
NUM_COEFFICIENTS = 64

STRIPS, TILES = (273, 279), (324, 325)
"""TIFF tags of the offsets and byte counts of strips and of tiles."""


def find_defect(data: bytes, kind: str, tags: Mapping[int, Any] | None = None) -> Defect | None:
    """Return why a file is incomplete or damaged, None where nothing was found.

    Args:
        data: all bytes of the file.
        kind: PNG, JPEG, TIFF, BMP or WEBP.
        tags: tags of a TIFF's first page; a TIFF without them is not checked.
    """
    if kind == "PNG":
        return _png_defect(data)
    if kind == "TIFF":
        return _tiff_defect(tags, len(data)) if tags else None
    if kind == "JPEG":
        complete = JpegScans(data).is_complete
    elif kind == "WEBP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    else:
        complete = len(data) >= int.from_bytes(data[2:6], "little")
    return None if complete else _cut(data, kind)


class JpegScans:
    """The scans of a JPEG, found by its segments; a thumbnail inside a segment is skipped."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.has_end = False
        self.ends: list[int] = []
        """Offset of the end of each scan's data, in bytes."""
        components: bytes = b""
        progressive = False
        headers: list[bytes] = []
        position = 2
        while found := JPEG_MARKER.search(data, position):
            marker, start = data[found.start() + 1], found.end()
            if len(self.ends) < len(headers):
                self.ends.append(found.start())
            if marker in (JPEG_START, JPEG_END):
                self.has_end = marker == JPEG_END
                break
            end = start + max(2, int.from_bytes(data[start : start + 2], "big"))
            body = data[start + 2 : end]
            if marker == JPEG_SCAN:
                headers.append(body)
            elif marker in JPEG_FRAMES:
                components, progressive = body[6::3], marker == JPEG_PROGRESSIVE
            position = end
        wanted = {(part, k) for part in components for k in range(NUM_COEFFICIENTS)}
        self.is_complete = self.has_end and wanted <= _sent(headers, progressive)
        """Whether the file has an end mark, and its scans send every coefficient to the last bit."""

    def with_filler(self) -> bytes:
        """Return the file with arbitrary bits added after the data of each scan.

        Where a scan is complete, a decoder skips the added bits and the pixels stay the same. Where data
        are missing, it decodes these bits in place of the zeros that it would assume, and the pixels
        change.
        """
        starts = [0, *self.ends]
        parts = [self.data[a:b] for a, b in zip(starts, self.ends, strict=False)]
        return JPEG_FILLER.join([*parts, self.data[starts[-1] :]])


def _sent(headers: list[bytes], progressive: bool) -> set[tuple[int, int]]:
    """Return the component and index of each coefficient that some scan sends to its last bit."""
    sent: set[tuple[int, int]] = set()
    for header in headers:
        num_components = header[0] if header else 0
        first, last, bits = 0, NUM_COEFFICIENTS - 1, 0
        if progressive:
            first, last, bits = (*header[1 + 2 * num_components :], 0, 0, 0xF)[:3]
        if bits & 0xF == 0:
            parts = header[1 : 1 + 2 * num_components : 2]
            sent |= {(part, k) for part in parts for k in range(first, last + 1)}
    return sent


def _cut(data: bytes, kind: str) -> Defect:
    return "truncated", (
        f"{len(data)} bytes of {kind} that end before the image does, expected the whole file: "
        "copy it again"
    )


def _png_defect(data: bytes) -> Defect | None:
    position, header = PNG_SIGNATURE_BYTES, b""
    pixels: list[memoryview] = []
    view = memoryview(data)
    while True:
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        if end > len(data):
            return _cut(data, "PNG")
        name, body = bytes(view[position + 4 : position + 8]), view[position + 8 : end - 4]
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return "unreadable", (
                f"{len(data)} bytes of PNG whose chunk {name!r} at byte {position} does not fit its "
                "checksum, expected an undamaged file: copy it again"
            )
        if name == b"IHDR":
            header = bytes(body)
        elif name == b"IDAT":
            pixels.append(body)
        elif name == b"IEND":
            break
        position = end
    if len(header) != 13:
        return "unreadable", f"{len(data)} bytes of PNG without a header, expected one: copy it again"
    wanted = _png_bytes(header)
    found = _inflated_bytes(pixels, wanted)
    if found < wanted:
        return "truncated", (
            f"{len(data)} bytes of PNG whose pixels end after {found} of {wanted} bytes, expected all: "
            "write the file again"
        )
    return None


def _png_bytes(header: bytes) -> int:
    """Return the size of a PNG's decompressed rows, in bytes."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * PNG_CHANNELS.get(header[9], 1)
    passes = ADAM7 if header[12] else ((0, 0, 1, 1),)
    total = 0
    for left, top, step_x, step_y in passes:
        columns, rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _inflated_bytes(pieces: list[memoryview], wanted: int) -> int:
    """Count the decompressed bytes of a zlib stream up to `wanted`, without keeping them."""
    inflate, found = zlib.decompressobj(), 0
    for piece in pieces:
        left: bytes | memoryview = piece
        while len(left) and found < wanted and not inflate.eof:
            found += len(inflate.decompress(left, INFLATE_BYTES))
            left = inflate.unconsumed_tail
    return found if found >= wanted else found + len(inflate.flush())


def _tiff_defect(tags: Mapping[int, Any], num_bytes: int) -> Defect | None:
    width, height = tags[256], tags[257]
    if TILES[0] in tags:
        offsets_tag, counts_tag = TILES
        num_parts = -(-width // tags[322]) * -(-height // tags[323])
    else:
        offsets_tag, counts_tag = STRIPS
        num_parts = -(-height // tags.get(278, height))
    if tags.get(284, 1) == 2:
        num_parts *= tags.get(277, 1)
    offsets, counts = tags.get(offsets_tag, ()), tags.get(counts_tag, ())
    if len(offsets) < num_parts:
        return "truncated", (
            f"{num_bytes} bytes of TIFF that list {len(offsets)} of {num_parts} strips or tiles, "
            "expected all: write the file again"
        )
    last = max((offset + count for offset, count in zip(offsets, counts, strict=False)), default=0)
    if last > num_bytes:
        return "truncated", (
            f"{num_bytes} bytes of TIFF whose pixels end at byte {last}, expected the whole file: "
            "copy it again"
        )
    return None
