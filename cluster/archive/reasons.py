"""Why a pair is rejected: the closed list of reasons, and how an error becomes one of them."""

from __future__ import annotations

REASONS = {
    "missing_partner": "a side of the pair was not found: no file of the name, or no such STAC asset",
    "ambiguous": "several files of one side, or several STAC items, have the pair's name",
    "bad_name": "the file's name is not UTF-8, or the STAC item has no id",
    "missing_file": "the file is not there any more",
    "empty": "the file has no bytes",
    "wrong_type": "the content is not an image of a type that is read",
    "truncated": "the file ends before the image does",
    "unreadable": "the image is damaged",
    "too_many_pixels": "height x width is over --max-pixels",
    "size_mismatch": "the two sides differ in height or width",
    "too_small": "a side is shorter than 8 pixels",
    "no_finite_pixels": "an image has no pixel with data",
    "no_overlap": "no pixel has data on both sides",
    "flat_range": "the range of source values leaves one grey level",
    "crashed": "the process ended each time that the pair was read, fused or written",
    "failed": "any other error, named in the detail",
}
"""Every reason for which a pair is rejected, and what it means. Nothing else is ever written."""


class BadImage(ValueError):
    """A file that gives no image; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        # Parsers quote the file, and a terminal obeys what a file may hold.
        detail = "".join(letter if letter.isprintable() else "?" for letter in detail)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadPair(BadImage):
    """A pair that can't be read; the detail begins with `ir:` or `vis:` where one side is the cause."""

    def __init__(self, side: str, error: Exception, num_bytes: int) -> None:
        """Take the side, empty where both are the cause, and the bytes that were read before."""
        reason, detail = explain(error)
        super().__init__(reason, f"{side}: {detail}" if side else detail)
        self.num_bytes = num_bytes
        """Bytes of both files that were read before the error."""


def explain(error: Exception) -> tuple[str, str]:
    """Return the reason code and the detail of an error, one line each."""
    if isinstance(error, BadImage):
        return error.reason, error.detail
    if isinstance(error, FileNotFoundError):
        return "missing_file", "not found, expected the file of the pair index: index again"
    said = " ".join(str(error).split())[:500]
    if (reason := getattr(error, "reason", None)) in REASONS:  # the errors of dmnet_core.prepare
        return str(reason), said
    return "failed", f"{type(error).__name__}: {said}"
