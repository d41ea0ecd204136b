"""DM's noise as a function of position, so that a pixel's noise is the same whichever window it is in.

Ours: each value is a counter-based hash of (seed, pair, channel, step, y, x), turned into a standard
normal by Box and Muller (Ann. Math. Stat. 29(2), 1958). The mixing constants are those of
MurmurHash3's 64-bit finaliser, cut to 32-bit words so that CPU and CUDA give the same integers.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

WORD = 0xFFFFFFFF


def pair_key(pair_id: str, seed: int) -> int:
    """Return a 32-bit key of a pair and a seed."""
    digest = hashlib.sha256(f"{seed}\0{pair_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")


def position_noise(
    key: int,
    steps: tuple[int, ...],
    height: int,
    width: int,
    *,
    y0: int = 0,
    x0: int = 0,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Return the noise of one rectangle, (S, 2, height, width) float32, standard normal.

    Args:
        key: from `pair_key`.
        steps: the S noise steps t.
        height: height of the rectangle, in pixels of DM's resolution.
        width: width of the rectangle, in the same pixels.
        y0: first row of the rectangle in its image, in the same pixels.
        x0: first column of the rectangle in its image, in the same pixels.
        device: device that computes the noise and holds it.
    """
    y = torch.arange(y0, y0 + height, dtype=torch.int64, device=device)[:, None]
    x = torch.arange(x0, x0 + width, dtype=torch.int64, device=device)[None, :]
    planes = []
    for t in steps:
        base = _mix((_mix(torch.tensor(key, device=device)) + t) & WORD)
        row = _mix((base + y) & WORD)  # (height, 1)
        first = _mix(((row ^ 0x9E3779B9) + x) & WORD)  # (height, width)
        second = _mix((first ^ row ^ 0x85EBCA6B) & WORD)
        radius = torch.sqrt(-2.0 * torch.log((first.double() + 1.0) / 2.0**32))
        angle = second.double() * (2.0 * math.pi / 2.0**32)
        planes.append(torch.stack([radius * angle.cos(), radius * angle.sin()]))
    return torch.stack(planes).float()


def _mix(word: Tensor) -> Tensor:
    """Scramble 32-bit words held in int64 (the products wrap; their low 32 bits are exact)."""
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & WORD
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & WORD
    return word ^ (word >> 16)
