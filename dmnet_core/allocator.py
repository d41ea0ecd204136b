"""Memory that this process keeps from one image to the next.

By itself glibc gives every large block back to the system as PyTorch frees it, and the next feature map
faults each of its pages in again: on a CPU that is a third to a half of the time that fusing takes.

What is kept of images of one size fits those of another badly: images of a megapixel that take turns
would keep half as much again as one of them needs. So it is given back where the size changes.
"""

from __future__ import annotations

import ctypes
import math
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the parameters of mallopt, from glibc's malloc.h."""
LARGE = 500_000
"""Number of pixels from which on the memory of images is given back where their size changes."""
_kept: tuple[int, ...] | None = None
"""Shape of the images whose memory this process keeps; () before the first, None where none is kept."""


def keep_memory() -> bool:
    """Have malloc take large blocks from the heap, and never give the heap back; return whether it will.

    The process then keeps the memory of the images that it has fused; see `renew_memory`. Elsewhere than
    on Linux with glibc nothing is changed.
    """
    global _kept
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    keeps = bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))  # never trim
    if keeps and _kept is None:
        _kept = ()
    return keeps


def renew_memory(shape: tuple[int, ...]) -> bool:
    """Give back what was kept of large images if the next ones have another shape; return whether it was.

    Args:
        shape: (B, 1, H, W) of the next images.
    """
    global _kept
    if _kept is None or shape == _kept:
        return False
    before, _kept = _kept, shape
    if max(math.prod(before), math.prod(shape)) < LARGE:
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))
