"""Generated scenes: registered infrared and visible images without any file or download.

They feed the demo and the tests. Every pixel follows from (kind, seed, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmnet_core.synthetic.aerial import draw_aerial
from dmnet_core.synthetic.canvas import develop
from dmnet_core.synthetic.night_road import draw_night_road

KINDS = ("night_road", "aerial")
MIN_SIDE = 64
"""Smallest height and width, pixels: below it people are less than a pixel."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One generated pair and where its people are."""

    ir: NDArray[np.uint8]
    """(H, W) infrared, hot is bright."""
    vis: NDArray[np.uint8]
    """(H, W, 3) visible, RGB."""
    people: NDArray[np.bool_]
    """(H, W) True where a person covers most of the pixel."""


def make_scene(kind: str, seed: int, height: int, width: int) -> Scene:
    """Render one scene and say where its people are.

    Args:
        kind: "night_road" or "aerial".
        seed: not negative; another seed is another scene.
        height: pixels, at least 64.
        width: pixels, at least 64.

    Returns:
        The pair and the mask of its people.

    Raises:
        ValueError: an unknown kind, a negative seed, or a side below 64 pixels.
    """
    if kind not in KINDS:
        raise ValueError(
            f"scene kind is {kind!r}, expected one of {', '.join(KINDS)}: pass one of them"
        )
    if seed < 0:
        raise ValueError(f"scene seed is {seed}, expected 0 or more: pass another seed")
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"scene size is {height} x {width} px (height x width), expected {MIN_SIDE} or more on "
            "each side: ask for a larger scene"
        )
    rng = np.random.default_rng([KINDS.index(kind), seed])
    if kind == "night_road":
        canvas = draw_night_road(rng, height, width)
        ir, vis = develop(canvas, rng, exposure=2.4, vis_noise=0.10)
    else:
        canvas = draw_aerial(rng, height, width)
        ir, vis = develop(canvas, rng, exposure=1.5, vis_noise=0.05)
    return Scene(ir=ir, vis=vis, people=canvas.targets > 0.5)


def render_scene(
    kind: str, seed: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one pair: ir (H, W) uint8 and vis (H, W, 3) uint8; see `make_scene`."""
    scene = make_scene(kind, seed, height, width)
    return scene.ir, scene.vis
