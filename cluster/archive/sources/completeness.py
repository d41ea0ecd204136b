"""Whether an image file is whole: the checks that the decoding libraries do not make.

Decoders fill the missing part with grey, without an error, where a JPEG was cut between two of its scans
and given an end mark, and where a BMP or a WebP ends early.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)  # none within a scan's data
JPEG_START, JPEG_END, JPEG_SCAN, JPEG_PROGRESSIVE = 0xD8, 0xD9, 0xDA, 0xC2
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
JPEG_DECODED = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Frames of DCT coefficients, sequential or progressive, by Huffman or arithmetic coding."""
NUM_COEFFICIENTS = 64


def is_cut(data: bytes, kind: str) -> bool:
    """Return whether a BMP or a WEBP has fewer bytes than its header says."""
    start, length = (data[4:8], 8) if kind == "WEBP" else (data[2:6], 0)
    return len(data) < length + int.from_bytes(start, "little")


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield marker, offset and body of each segment of a JPEG, up to the end mark or a second start."""
    position = 2
    while found := JPEG_MARKER.search(data, position):
        marker, start = data[found.start() + 1], found.end()
        if marker in (JPEG_START, JPEG_END):
            yield marker, found.start(), b""
            return
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        yield marker, found.start(), data[start + 2 : position]


class JpegScans:
    """Frame and scans of a JPEG, found by its segments; a thumbnail inside a segment is skipped."""

    def __init__(self, data: bytes) -> None:
        has_end = False
        self.width = self.height = self.bits = 0
        self.is_decoded = True
        """Whether the coding is one of those that are read."""
        components: bytes = b""
        progressive = False
        headers: list[bytes] = []
        self.end = len(data)
        """Offset of the end mark, in bytes."""
        for marker, start, body in segments(data):
            if marker == JPEG_END:
                has_end, self.end = True, start
            elif marker == JPEG_SCAN:
                headers.append(body)
            elif marker in JPEG_FRAMES:
                components, progressive = body[6::3], marker in (JPEG_PROGRESSIVE, 0xCA)
                self.bits = body[0] if body else 0
                self.height = int.from_bytes(body[1:3], "big")
                self.width = int.from_bytes(body[3:5], "big")
                self.is_decoded = marker in JPEG_DECODED and self.bits == 8
        wanted = {(part, k) for part in components for k in range(NUM_COEFFICIENTS)}
        self.is_complete = has_end and wanted <= _sent(headers, progressive)
        """Whether the file has an end mark, and its scans send every coefficient to the last bit."""


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
