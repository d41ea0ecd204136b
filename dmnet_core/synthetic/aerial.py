"""A suburb seen from above, in low daylight.

Map points are (v, u) in metres from the middle of the picture; the main road runs along u and the
map is turned by a random angle. Warm roofs, running cars and people stand out in infrared; in the
visible image people have the colours of the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmnet_core.synthetic.canvas import Canvas, Layer, Point, value_noise

SHADE = 0.38
"""Light in a shadow, as a share of the sun's."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """From metres on the ground to pixels."""

    scale: float
    """Pixels a metre."""
    angle: float
    """Turn of the main road, radians."""
    center: Point
    """Pixel of the map's origin."""
    sun: Point
    """Shift of a shadow, pixels for each metre of height."""

    def point(self, v: float, u: float) -> Point:
        """Pixel (y, x) of a map point."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        y, x = v * cos + u * sin, u * cos - v * sin
        return self.center[0] + self.scale * y, self.center[1] + self.scale * x

    def rectangle(self, v: float, u: float, half_v: float, half_u: float) -> list[Point]:
        """Corners of a rectangle along the road."""
        signs = ((-1, -1), (-1, 1), (1, 1), (1, -1))
        return [self.point(v + sv * half_v, u + su * half_u) for sv, su in signs]

    def shadow(self, points: list[Point], up: float) -> list[Point]:
        """The same points, moved to where their shadow falls from `up` metres."""
        return [(y + up * self.sun[0], x + up * self.sun[1]) for y, x in points]


def draw_aerial(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Paint the suburb; the layers are described in `dmnet_core.synthetic.canvas`."""
    scale = max(height / 58, 6.0)
    toward = rng.uniform(0, 2 * np.pi)
    ground = Map(
        scale=scale,
        angle=rng.uniform(-0.5, 0.5),
        center=(height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)),
        sun=(0.75 * scale * np.sin(toward), 0.75 * scale * np.cos(toward)),
    )
    canvas = Canvas(height, width)
    reach = 0.75 * max(height, width) / scale + 10
    crossing = rng.uniform(-12, 12)
    _draw_ground(canvas, ground, rng, reach, crossing)
    _draw_roads(canvas, ground, rng, reach, crossing)
    tiles = 0.12 * value_noise(rng, height, width, cell=12, octaves=3)
    roofs, blocked = [], [(0.0, crossing)]
    for side in (-1, 1):
        at = -reach
        while at < reach:
            lot = rng.uniform(15, 19)
            middle, at = at + lot / 2, at + lot
            if abs(middle - crossing) > lot / 2 + 5 and rng.random() < 0.85:
                v = side * rng.uniform(14, 16)
                _draw_drive(canvas, ground, rng, v, middle - 6.2)
                roofs.append((v, middle, rng.uniform(3.6, 4.6), rng.uniform(4.2, 5.0)))
                blocked.append((v, middle))
    for roof in roofs:
        _shade_house(canvas, ground, roof)
    _draw_traffic(canvas, ground, rng, crossing, reach)
    people = _draw_people(canvas, ground, rng, crossing)
    for roof in roofs:
        _draw_house(canvas, ground, rng, roof, tiles)
    _draw_trees(canvas, ground, rng, reach, crossing, blocked, people)
    return canvas


def _draw_ground(
    canvas: Canvas, ground: Map, rng: np.random.Generator, reach: float, crossing: float
) -> None:
    height, width = canvas.height, canvas.width
    coarse = value_noise(rng, height, width, cell=height / 4, octaves=6)
    fine = value_noise(rng, height, width, cell=5, octaves=3)
    grass = np.stack([0.115 + 0.03 * coarse, 0.15 + 0.02 * coarse, 0.065 + 0.008 * coarse], axis=-1)
    canvas.albedo[:] = grass * (1 + 0.22 * fine[..., None])
    canvas.ir[:] = 0.30 + 0.04 * coarse + 0.02 * fine
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y - ground.center[0]) / ground.scale, (x - ground.center[1]) / ground.scale
    cos, sin = np.cos(ground.angle), np.sin(ground.angle)
    along, across = x * cos + y * sin, y * cos - x * sin
    for side in (-1, 1):
        left = -reach
        while left < reach:
            wide = rng.uniform(16, 30)
            rows = np.sin(2 * np.pi * (along if rng.random() < 0.5 else across) / 1.1)
            tone = 1 + 0.12 * rows + 0.15 * fine + 0.2 * coarse
            soil = np.array([(0.20, 0.15, 0.09), (0.24, 0.22, 0.10), (0.10, 0.14, 0.05)])
            color = (tone[..., None] * soil[rng.integers(3)]).astype(np.float32)
            heat = rng.uniform(0.24, 0.40) + 0.025 * rows + 0.03 * coarse
            field = ground.rectangle(
                side * (26 + reach / 2), left + wide / 2, reach / 2, wide / 2 - 0.8
            )
            canvas.polygon(field, color=color, ir=heat.astype(np.float32))
            left += wide


def _draw_roads(
    canvas: Canvas, ground: Map, rng: np.random.Generator, reach: float, crossing: float
) -> None:
    height, width = canvas.height, canvas.width
    fine = value_noise(rng, height, width, cell=4, octaves=2)
    coarse = value_noise(rng, height, width, cell=height / 6, octaves=4)
    asphalt = (0.105 * (1 + 0.1 * fine + 0.15 * coarse))[..., None].repeat(3, axis=-1)
    stones = (0.24 * (1 + 0.1 * fine + 0.1 * coarse))[..., None] * np.array([1.0, 0.96, 0.9])
    layers = (
        (5.6, stones.astype(np.float32), 0.40 + 0.02 * coarse),
        (3.6, asphalt, 0.50 + 0.025 * coarse + 0.012 * fine),
    )
    for half, color, heat in layers:
        canvas.polygon(ground.rectangle(0, 0, half, reach), color=color, ir=heat)
        small = 0.8 * half
        canvas.polygon(ground.rectangle(0, crossing, reach, small), color=color, ir=heat)
    # where the roads meet, asphalt covers the pavement of both
    canvas.polygon(ground.rectangle(0, crossing, 5.6, 2.88), color=asphalt, ir=layers[1][2])
    white = (0.5, 0.5, 0.48)
    for at in np.arange(-reach, reach, 4.5):
        if abs(at - crossing) > 6:
            canvas.polygon(ground.rectangle(0, at, 0.09, 1.1), color=white, ir=0.47, opacity=0.8)
        if abs(at) > 9:
            canvas.polygon(
                ground.rectangle(at, crossing, 1.1, 0.09), color=white, ir=0.47, opacity=0.8
            )
    for bar in np.arange(-3.1, 3.2, 0.9):  # zebra crossing
        canvas.polygon(
            ground.rectangle(bar, crossing + 5.2, 0.24, 1.2), color=white, ir=0.46, opacity=0.85
        )


def _draw_drive(canvas: Canvas, ground: Map, rng: np.random.Generator, v: float, u: float) -> None:
    """Paint a driveway and, more often than not, the car that stands on it."""
    side = np.sign(v)
    canvas.polygon(ground.rectangle(side * 9.5, u, 5.0, 1.5), color=(0.22, 0.2, 0.18), ir=0.42)
    if rng.random() < 0.6:
        _draw_car(canvas, ground, rng, side * 10.5, u, along=False, running=rng.random() < 0.4)


def _draw_car(
    canvas: Canvas,
    ground: Map,
    rng: np.random.Generator,
    v: float,
    u: float,
    *,
    along: bool,
    running: bool,
) -> None:
    paints = (
        (0.07, 0.07, 0.08),
        (0.16, 0.16, 0.17),
        (0.45, 0.45, 0.45),
        (0.2, 0.05, 0.04),
        (0.05, 0.08, 0.17),
        (0.09, 0.09, 0.08),
    )
    paint, nose = paints[rng.integers(len(paints))], rng.choice((-1, 1))
    body = 0.45 if running else rng.uniform(0.26, 0.34)

    def part(near: float, far: float, half: float) -> list[Point]:
        middle, length = nose * (near + far) / 2, (far - near) / 2
        if along:
            return ground.rectangle(v, u + middle, half, length)
        return ground.rectangle(v + middle, u, length, half)

    outline = part(-2.0, 2.0, 0.78)
    for up in (0.5, 1.0, 1.4):
        canvas.polygon(ground.shadow(outline, up), light=SHADE, radius=0.1 * ground.scale)
    if running:
        for axle in (-1.3, 1.3):
            canvas.polygon(part(axle - 0.3, axle + 0.3, 0.95), ir=0.78)
    canvas.polygon(outline, color=paint, ir=body, light=0.95, radius=0.14 * ground.scale)
    canvas.polygon(part(-1.5, 0.75, 0.68), color=(0.03, 0.035, 0.04), ir=body - 0.07)
    roof = tuple(min(1.15 * value, 1.0) for value in paint)
    canvas.polygon(part(-1.05, 0.2, 0.66), color=(roof[0], roof[1], roof[2]), ir=body + 0.02)
    if running:
        canvas.polygon(part(1.0, 1.95, 0.66), ir=0.92, soft=2.0)


def _draw_traffic(
    canvas: Canvas, ground: Map, rng: np.random.Generator, crossing: float, reach: float
) -> None:
    for lane in (-1.75, 1.75):
        at = crossing + rng.uniform(-24, -12)
        while at < crossing + 30:
            if abs(at - crossing) > 8:
                _draw_car(canvas, ground, rng, lane, at, along=True, running=True)
            at += rng.uniform(13, 26)
    at = rng.choice((-1, 1)) * rng.uniform(10, 18)
    _draw_car(canvas, ground, rng, at, crossing + 1.4, along=False, running=True)


def _draw_people(
    canvas: Canvas, ground: Map, rng: np.random.Generator, crossing: float
) -> list[Point]:
    """Paint people on the pavements, the zebra crossing and the lawns; return where, (v, u)."""
    half_v, half_u = (0.42 * size / ground.scale for size in (canvas.height, canvas.width))
    spots = [
        (rng.choice((-1, 1)) * rng.uniform(4.1, 5.2), rng.uniform(-half_u, half_u))
        for _ in range(6)
    ]
    spots += [(rng.uniform(-3, 3), crossing + 5.2 + rng.uniform(-0.8, 0.8)) for _ in range(2)]
    spots += [(rng.uniform(-half_v, half_v), rng.uniform(-half_u, half_u)) for _ in range(6)]
    for v, u in spots:
        y, x = ground.point(v, u)
        if not (2 <= y < canvas.height - 2 and 2 <= x < canvas.width - 2):
            continue
        under = canvas.albedo[int(y), int(x)]
        cloth = tuple(float(value) for value in under * rng.uniform(0.7, 1.15))
        turn, scale = rng.uniform(0, np.pi), ground.scale
        fall = (y + 0.8 * ground.sun[0], x + 0.8 * ground.sun[1])
        canvas.limb((y, x), fall, 0.2 * scale, light=0.8)
        canvas.ellipse(
            (y, x),
            (0.20 * scale, 0.36 * scale),
            angle=turn,
            ir=0.9,
            color=(cloth[0], cloth[1], cloth[2]),
            target=True,
        )
        canvas.ellipse((y, x), (0.15 * scale, 0.15 * scale), ir=1.0, target=True)
    return spots


def _shade_house(canvas: Canvas, ground: Map, roof: tuple[float, float, float, float]) -> None:
    outline = ground.rectangle(*roof)
    for up in np.arange(0.4, 5.4, 0.4):
        canvas.polygon(ground.shadow(outline, float(up)), light=SHADE)


def _draw_house(
    canvas: Canvas,
    ground: Map,
    rng: np.random.Generator,
    roof: tuple[float, float, float, float],
    grain: Layer,
) -> None:
    """Paint a gable roof with tile rows, a chimney and a skylight or solar panels."""
    v, u, half_v, half_u = roof
    tile = np.array(
        [(0.30, 0.12, 0.07), (0.17, 0.15, 0.14), (0.24, 0.16, 0.11), (0.12, 0.12, 0.13)]
    )[rng.integers(4)]
    heat = rng.uniform(0.46, 0.70)
    sun_v = ground.sun[0] * np.cos(ground.angle) - ground.sun[1] * np.sin(ground.angle)
    for side in (-1, 1):
        bright = 1.0 + (-0.35 if side * sun_v > 0 else 0.2)
        red, green, blue = (float(value) for value in tile * bright)
        slope = ground.rectangle(v + side * half_v / 2, u, half_v / 2, half_u)
        warm = heat + (0.0 if side * sun_v > 0 else 0.05)
        canvas.polygon(slope, color=(red, green, blue), ir=warm, light=1.0, grain=grain)
        for row in np.arange(0.35, half_v, 0.45):
            line = ground.rectangle(v + side * row, u, 0.05, half_u)
            canvas.polygon(line, color=(0.7 * red, 0.7 * green, 0.7 * blue), opacity=0.5)
    canvas.polygon(ground.rectangle(v, u, 0.12, half_u), color=(0.3, 0.26, 0.22), ir=heat + 0.1)
    chimney = v + rng.uniform(-1, 1), u + rng.uniform(-2.5, 2.5)
    block = ground.rectangle(*chimney, 0.35, 0.35)
    canvas.polygon(ground.shadow(block, 1.0), light=0.5)
    canvas.polygon(block, color=(0.2, 0.13, 0.1), ir=0.97, light=1.0)
    lit, across = rng.choice((-1, 1)) * half_v / 2, u + rng.uniform(-2, 2)
    if rng.random() < 0.4:
        for panel in (-1.3, 0.0, 1.3):
            quad = ground.rectangle(v + lit, across + panel, 0.9, 0.58)
            canvas.polygon(quad, color=(0.03, 0.04, 0.09), ir=heat - 0.16)
    else:
        quad = ground.rectangle(v + lit, across, 0.5, 0.4)
        canvas.polygon(quad, color=(0.3, 0.36, 0.42), ir=heat + 0.13)


def _draw_trees(
    canvas: Canvas,
    ground: Map,
    rng: np.random.Generator,
    reach: float,
    crossing: float,
    blocked: list[Point],
    people: list[Point],
) -> None:
    texture = 0.35 * value_noise(rng, canvas.height, canvas.width, cell=7, octaves=3)

    def is_free(v: float, u: float, radius: float) -> bool:
        return (
            abs(v) > radius + 4.2
            and abs(u - crossing) > radius + 3.4
            and all(np.hypot(v - bv, u - bu) > radius + 6.2 for bv, bu in blocked)
            and all(np.hypot(v - pv, u - pu) > radius + 1.2 for pv, pu in people)
            and all(np.hypot(v - tv, u - tu) > 0.8 * (radius + tr) for tv, tu, tr in trees)
        )

    trees: list[tuple[float, float, float]] = []
    for _ in range(240):
        v, u, radius = rng.uniform(-reach, reach), rng.uniform(-reach, reach), rng.uniform(1.1, 2.6)
        if is_free(v, u, radius):
            trees.append((v, u, radius))
    for v, u, radius in trees:
        size = radius * ground.scale
        for up in (1.5, 2.5, 3.5):
            spot = ground.shadow([ground.point(v, u)], up)[0]
            canvas.ellipse(spot, (size, size), light=SHADE, soft=3.0)
    for v, u, radius in trees:
        (y, x), size = ground.point(v, u), radius * ground.scale
        green = np.array([0.07, 0.11, 0.035]) * rng.uniform(0.7, 1.25)
        heat = rng.uniform(0.33, 0.42)
        toward = -np.asarray(ground.sun) / np.hypot(*ground.sun)
        for step in range(16):  # leaves: dark ones at the rim first, sunlit ones last
            share = step / 15
            turn, far = rng.uniform(0, 2 * np.pi), size * 0.62 * rng.random() * (1 - 0.5 * share)
            spot = (
                y + far * np.sin(turn) + 0.25 * share * size * toward[0],
                x + far * np.cos(turn) + 0.25 * share * size * toward[1],
            )
            leaf = size * (0.52 - 0.27 * share)
            red, leafy, blue = (float(value) for value in green * (0.6 + 0.9 * share))
            canvas.ellipse(
                spot,
                (leaf, leaf * rng.uniform(0.8, 1.2)),
                light=1.0,
                soft=1.8,
                color=(red, leafy, blue),
                ir=heat + 0.03 * share,
                grain=texture,
            )
