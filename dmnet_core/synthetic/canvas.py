"""The canvas that the generated scenes are painted on: shapes, textures and the two sensors.

A scene is painted once, in layers that both sensors share, and `develop` turns the layers into what
each sensor would record. Points are (y, x) in pixels, may lie outside, and shapes are antialiased.

Shapes: H and W height and width.
    ir        (H, W)     apparent temperature, 0 cold to 1 hot, float32
    albedo    (H, W, 3)  how much of the light a surface sends back, RGB in [0, 1], float32
    light     (H, W)     how much light falls on it, 1 is full daylight, float32
    emission  (H, W, 3)  light that a source sends out itself, RGB, float32
    targets   (H, W)     share of the pixel that a warm person covers, [0, 1], float32
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Layer: TypeAlias = NDArray[np.floating[Any]]
Point: TypeAlias = tuple[float, float]
Color: TypeAlias = tuple[float, float, float] | Layer
Box: TypeAlias = tuple[slice, slice]


def value_noise(
    rng: np.random.Generator, height: int, width: int, *, cell: float, octaves: int = 4
) -> Layer:
    """Smooth random texture (H, W) float32, about -1 to 1; `cell` pixels is its coarsest grain."""
    total = np.zeros((height, width))
    weight, weights = 1.0, 0.0
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        y, x = np.arange(height) / size, np.arange(width) / size
        y0, x0 = y.astype(int), x.astype(int)
        grid = rng.uniform(-1, 1, (y0[-1] + 2, x0[-1] + 2))
        fy, fx = (y - y0)[:, None], (x - x0)[None, :]
        fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
        top = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
        bottom = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
        total += weight * (top * (1 - fy) + bottom * fy)
        weights += weight * weight
        weight *= 0.6
    texture: Layer = (total / np.sqrt(weights)).astype(np.float32)
    return texture


def blur(image: Layer, sigma: float) -> Layer:
    """Gaussian blur of (H, W) or (H, W, C), `sigma` pixels, edges repeated."""
    margin = int(3 * sigma) + 1
    pad = [(margin, margin), (margin, margin)] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, pad, mode="edge").astype(np.float64)
    height, width = padded.shape[:2]
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    response = np.exp(-2 * (np.pi * sigma) ** 2 * (fy**2 + fx**2))
    response = response.reshape(response.shape + (1,) * (image.ndim - 2))
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * response
    smooth = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return smooth[margin:-margin, margin:-margin].astype(np.float32)


class Canvas:
    """Layers of one scene; see the module docstring for their shapes."""

    def __init__(self, height: int, width: int) -> None:
        """Start with a cold, black scene in full daylight."""
        self.height, self.width = height, width
        self.ir = np.zeros((height, width), np.float32)
        self.albedo = np.zeros((height, width, 3), np.float32)
        self.light = np.ones((height, width), np.float32)
        self.emission = np.zeros((height, width, 3), np.float32)
        self.targets = np.zeros((height, width), np.float32)

    def polygon(
        self,
        points: Sequence[Point],
        *,
        ir: float | Layer | None = None,
        color: Color | None = None,
        light: float | Layer | None = None,
        emission: Color | None = None,
        grain: Layer | None = None,
        opacity: float = 1.0,
        radius: float = 0.0,
        soft: float = 1.0,
    ) -> None:
        """Paint a convex polygon, grown by `radius` pixels with round corners.

        `grain` (H, W) roughens the colour by its own share and the heat by a tenth of it.
        """
        corners = np.asarray(points, np.float64)
        box = self._box(corners.min(axis=0), corners.max(axis=0), radius + soft)
        if box is None:
            return
        y, x = np.ogrid[box]
        after = np.roll(corners, -1, axis=0)
        area = np.sum(corners[:, 1] * after[:, 0] - after[:, 1] * corners[:, 0])
        sign = 1.0 if area >= 0 else -1.0
        outside = np.full(np.broadcast_shapes(y.shape, x.shape), -1e9)
        for (y0, x0), (y1, x1) in zip(corners, after, strict=True):
            length = np.hypot(y1 - y0, x1 - x0)
            if length > 1e-6:
                edge = sign * ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
                outside = np.maximum(outside, edge)
        self._paint(
            box, (outside - radius) / soft, ir, color, light, emission, grain, opacity, False
        )

    def ellipse(
        self,
        center: Point,
        radii: Point,
        *,
        angle: float = 0.0,
        ir: float | Layer | None = None,
        color: Color | None = None,
        light: float | Layer | None = None,
        emission: Color | None = None,
        grain: Layer | None = None,
        opacity: float = 1.0,
        soft: float = 1.0,
        target: bool = False,
    ) -> None:
        """Paint an ellipse with radii (y, x), turned by `angle` radians."""
        middle, reach = np.asarray(center), max(radii)
        box = self._box(middle, middle, reach + soft)
        if box is None:
            return
        y, x = np.ogrid[box]
        dy, dx = y - center[0], x - center[1]
        cos, sin = np.cos(angle), np.sin(angle)
        distance = np.hypot((dy * cos + dx * sin) / radii[0], (dx * cos - dy * sin) / radii[1])
        outside = (distance - 1) * min(radii) / soft
        self._paint(box, outside, ir, color, light, emission, grain, opacity, target)

    def limb(
        self,
        start: Point,
        end: Point,
        radius: float,
        *,
        ir: float | None = None,
        color: Color | None = None,
        light: float | None = None,
        target: bool = False,
    ) -> None:
        """Paint a thick line with round ends: an arm, a leg, a lamp post."""
        ends = np.asarray([start, end], np.float64)
        box = self._box(ends.min(axis=0), ends.max(axis=0), radius + 1)
        if box is None:
            return
        y, x = np.ogrid[box]
        dy, dx = end[0] - start[0], end[1] - start[1]
        along = (y - start[0]) * dy + (x - start[1]) * dx
        share = np.clip(along / max(dy * dy + dx * dx, 1e-9), 0, 1)
        outside = np.hypot(y - start[0] - share * dy, x - start[1] - share * dx) - radius
        self._paint(box, outside, ir, color, light, None, None, 1.0, target)

    def _box(
        self, low: NDArray[np.float64], high: NDArray[np.float64], margin: float
    ) -> Box | None:
        y0, x0 = (max(int(np.floor(value - margin)), 0) for value in low)
        y1 = min(int(np.ceil(high[0] + margin)) + 1, self.height)
        x1 = min(int(np.ceil(high[1] + margin)) + 1, self.width)
        return (slice(y0, y1), slice(x0, x1)) if y0 < y1 and x0 < x1 else None

    def _paint(
        self,
        box: Box,
        outside: NDArray[np.float64],
        ir: float | Layer | None,
        color: Color | None,
        light: float | Layer | None,
        emission: Color | None,
        grain: Layer | None,
        opacity: float,
        target: bool,
    ) -> None:
        """Blend each given value in by the share of the pixel that the shape covers."""
        cover = (opacity * np.clip(0.5 - outside, 0, 1)).astype(np.float32)
        layers: tuple[tuple[Layer, float | Layer | Color | None], ...] = (
            (self.ir, ir),
            (self.light, light),
            (self.albedo, color),
            (self.emission, emission),
        )
        for layer, value in layers:
            if value is None:
                continue
            paint: Layer = np.asarray(value, np.float32)
            paint = paint[box] if paint.ndim >= 2 else paint
            if grain is not None and layer is self.albedo:
                paint = paint * (1 + grain[box][..., None])
            if grain is not None and layer is self.ir:
                paint = paint + 0.1 * grain[box]
            share = cover if layer.ndim == 2 else cover[..., None]
            layer[box] += share * (paint - layer[box])
        if color is not None and emission is None:  # what stands in front hides a lamp behind it
            self.emission[box] *= 1 - cover[..., None]
        hidden = self.targets[box]
        if target:
            self.targets[box] = np.maximum(hidden, cover)
        elif ir is not None:
            self.targets[box] = hidden * (1 - cover)


def develop(
    canvas: Canvas, rng: np.random.Generator, *, exposure: float, vis_noise: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Record a painted scene with both sensors.

    Args:
        canvas: the scene.
        rng: draws the sensors' noise.
        exposure: what the visible camera multiplies the light by.
        vis_noise: standard deviation of its read noise, in shares of full scale.

    Returns:
        ir (H, W) uint8 and vis (H, W, 3) uint8.
    """
    height, width = canvas.height, canvas.width
    scale = height / 480
    # an uncooled microbolometer: soft optics, weak column pattern, little noise
    ir = 0.75 * blur(canvas.ir, 0.9 * max(scale, 0.6)) + 0.25 * blur(canvas.ir, 2.5 * scale)
    ir = ir + 0.004 * rng.standard_normal((1, width)) + 0.009 * rng.standard_normal((height, width))
    # a colour camera: glow round lamps, shot and read noise, a soft shoulder for highlights
    lamps = canvas.emission
    glow = 0.5 * blur(lamps, 3 * scale) + 0.6 * blur(lamps, 11 * scale) + blur(lamps, 40 * scale)
    vis = blur(canvas.albedo * canvas.light[..., None] + lamps, 0.6) + glow
    vis = np.maximum(vis * exposure, 0)
    shot = 0.35 * vis_noise * np.sqrt(vis) * rng.standard_normal(vis.shape)
    read = 0.12 * vis_noise * blur(rng.standard_normal(vis.shape).astype(np.float32), 0.5)
    vis = np.maximum(vis + shot + read, 0)
    vis = (1 - np.exp(-vis)) ** (1 / 2.2)
    return _to_uint8(ir), _to_uint8(vis)


def _to_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    # a sensor saturates, so values beyond its range are clipped
    levels: NDArray[np.uint8] = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return levels
