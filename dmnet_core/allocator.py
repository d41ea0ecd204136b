"""Memory that this process keeps from one image to the next.

By itself glibc gives every large block back to the system as PyTorch frees it, and the next feature map
faults each of its pages in again: on a CPU that is a third to a half of the time that fusing takes.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the parameters of mallopt, from glibc's malloc.h."""
LARGEST_INT = 2**31 - 1


def keep_memory() -> bool:
    """Have malloc take large blocks from the heap, and never give the heap back; return whether it will.

    The process then keeps the memory of the largest image that it has fused. Elsewhere than on Linux with
    glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
