"""A city street at night, seen from a car.

The camera stands `EYE` metres above the right-hand lane. World points are (side, up, ahead) in
metres; the street runs straight ahead. What the lamps and the headlights do not reach is black in
the visible image; people, engines and tyres are warm whether lit or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmnet_core.synthetic.canvas import Canvas, Layer, Point, value_noise

EYE = 1.7
"""Camera height, metres."""
LANE = 1.75
"""From the middle of the road to the middle of a lane, metres."""
KERB = 5.6
"""From the middle of the road to the kerb, metres."""
FACADE = 9.5
"""From the middle of the road to the houses, metres."""
DARK = 0.012
"""Light where no lamp reaches."""
LAMP = (1.0, 0.72, 0.38)


@dataclass(frozen=True, kw_only=True)
class Street:
    """The camera and the lamps, shared by everything that is drawn."""

    focal: float
    """Focal length, pixels."""
    horizon: float
    """Row of the horizon, pixels."""
    center: float
    """Column of the vanishing point, pixels."""
    lamps: tuple[tuple[float, float], ...]
    """(side, ahead) of each lit street lamp, metres."""

    def point(self, side: float, up: float, ahead: float) -> Point:
        """Where a world point falls in the image, (y, x) pixels."""
        scale = self.focal / ahead
        return self.horizon + (EYE - up) * scale, self.center + (side - LANE) * scale

    def quad(
        self, sides: tuple[float, float], ups: tuple[float, float], ahead: tuple[float, float]
    ) -> list[Point]:
        """Corners of a rectangle in the world: flat, along the street or across it."""
        (s0, s1), (u0, u1), (a0, a1) = sides, ups, ahead
        if u0 == u1:
            corners = [(s0, u0, a0), (s1, u0, a0), (s1, u0, a1), (s0, u0, a1)]
        else:
            corners = [(s0, u0, a0), (s1, u0, a1), (s1, u1, a1), (s0, u1, a0)]
        return [self.point(*corner) for corner in corners]

    def light_at(self, side: Layer | float, up: Layer | float, ahead: Layer | float) -> Layer:
        """Light that falls on world points from the street lamps and the own headlights."""
        side, up, ahead = (np.asarray(value, np.float64) for value in (side, up, ahead))
        light = np.full(np.broadcast_shapes(side.shape, up.shape, ahead.shape), DARK)
        for lamp_side, lamp_ahead in self.lamps:
            distance = (side - lamp_side) ** 2 + (ahead - lamp_ahead) ** 2 + (up / 1.6) ** 2
            light = light + 0.14 * np.exp(-distance / 22)
        beam = np.exp(-(((side - LANE) / (0.9 + 0.10 * ahead)) ** 2)) * np.exp(-ahead / 11)
        return (light + 0.30 * beam * np.exp(-up / 0.5)).astype(np.float32)


def draw_night_road(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Paint the street; the layers are described in `dmnet_core.synthetic.canvas`."""
    first, gap = rng.uniform(9, 16), rng.uniform(20, 26)
    lamps = tuple(
        (side, first + gap * (number + (0.5 if side < 0 else 0.0)))
        for number in range(5)
        for side in (-KERB - 0.6, KERB + 0.6)
    )
    street = Street(
        focal=1.05 * height,
        horizon=height * rng.uniform(0.40, 0.47),
        center=width * rng.uniform(0.44, 0.56),
        lamps=tuple(lamp for lamp in lamps if rng.random() < 0.8),
    )
    canvas = Canvas(height, width)
    _draw_sky(canvas, street, rng)
    _draw_ground(canvas, street, rng)
    for side in (-FACADE, FACADE):
        _draw_houses(canvas, street, rng, side)
    things = [(ahead, "lamp", side) for side, ahead in lamps]
    things += [(rng.uniform(14, 45), "oncoming", -LANE), (rng.uniform(13, 30), "leading", LANE)]
    things += [(rng.uniform(8, 40), "parked", side * (KERB - 1.1)) for side in (-1, 1, 1)]
    things += [
        (rng.uniform(8, 24), "person", side * rng.uniform(KERB + 0.4, FACADE - 0.8))
        for side in rng.choice((-1, 1), 4)
    ]
    things += [(rng.uniform(9, 12), "person", rng.uniform(-3.6, -0.6))]
    for ahead, kind, side in sorted(things, reverse=True):
        if kind == "lamp":
            _draw_lamp(canvas, street, side, ahead, lit=(side, ahead) in street.lamps)
        elif kind == "person":
            _draw_person(canvas, street, rng, side, ahead)
        else:
            _draw_car(canvas, street, rng, side, ahead, kind)
    canvas.ir += 0.015 * value_noise(rng, height, width, cell=height / 6)
    return canvas


def _draw_sky(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    height, width = canvas.height, canvas.width
    up = np.clip(1 - np.arange(height) / street.horizon, 0, 1)[:, None].astype(np.float32)
    clouds = value_noise(rng, height, width, cell=height / 3, octaves=5)
    canvas.ir[:] = 0.22 - 0.15 * up + 0.03 * clouds
    haze = (0.010 + 0.022 * np.exp(-5 * up) + 0.003 * clouds)[..., None]
    # the sky sends its light out itself; the glow round lamps later adds twice as much again
    canvas.emission[:] = 0.3 * haze * np.array([0.75, 0.68, 0.9], np.float32)
    canvas.light[:] = DARK
    for left in np.arange(-70, 70, 11.0):  # far blocks on the horizon
        top, ahead = rng.uniform(8, 26), 130.0
        quad = street.quad((left, left + rng.uniform(9, 16)), (-1, top), (ahead, ahead))
        canvas.polygon(quad, ir=rng.uniform(0.2, 0.28), color=(0.2, 0.2, 0.25))
        for _ in range(10):
            side, at = left + rng.uniform(0, 10), rng.uniform(1, top)
            lit = street.quad((side, side + 0.9), (at, at + 1.1), (ahead, ahead))
            canvas.polygon(lit, emission=(0.09, 0.065, 0.035))


def _draw_ground(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    height, width = canvas.height, canvas.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ahead = street.focal * EYE / np.maximum(y - street.horizon, 0.5)
    side = (x - street.center) * ahead / street.focal + LANE
    light = street.light_at(side, 0.0, ahead)
    fine = value_noise(rng, height, width, cell=6, octaves=3)
    coarse = value_noise(rng, height, width, cell=height / 5, octaves=4)
    grain = 1 + 0.14 * fine + 0.22 * coarse
    tracks = sum(np.exp(-(((side - at) / 0.35) ** 2)) for at in (-2.5, -1.0, 1.0, 2.5))
    gray = np.array([1.0, 0.98, 0.95], np.float32)

    def lay(sides: tuple[float, float], ir: Layer, albedo: Layer) -> None:
        color = albedo[..., None] * gray
        quad = street.quad(sides, (0, 0), (1.5, 400))
        canvas.polygon(quad, ir=ir, color=color, light=light)

    lay((-90, 90), 0.30 + 0.03 * coarse, 0.20 * grain)
    lay((-FACADE, FACADE), 0.34 + 0.012 * fine + 0.02 * coarse, 0.40 * grain)
    lay((-KERB, KERB), 0.42 + 0.05 * tracks + 0.012 * fine + 0.02 * coarse, 0.22 * grain)
    for kerb in (-KERB, KERB):
        lay((kerb - 0.1, kerb + 0.1), 0.37 + 0 * fine, 0.6 * grain)
    start = rng.uniform(1.6, 7)
    for begin in np.arange(start, 120, 7.5):
        dash = street.quad((-0.07, 0.07), (0, 0), (begin, begin + 3))
        canvas.polygon(dash, ir=0.385, color=(0.75, 0.74, 0.7), opacity=0.9)
    for edge in (-3.5, 3.5):
        line = street.quad((edge - 0.06, edge + 0.06), (0, 0), (1.6, 200))
        canvas.polygon(line, ir=0.39, color=(0.7, 0.69, 0.65), opacity=0.8)
    for _ in range(3):  # manhole covers, warm from below
        cover = rng.uniform(-3, 3), 0.0, rng.uniform(6, 22)
        radius = 0.35 * street.focal / cover[2]
        flat = radius * EYE / cover[2]
        canvas.ellipse(street.point(*cover), (flat, radius), ir=0.56, color=(0.1, 0.1, 0.1))


def _draw_houses(canvas: Canvas, street: Street, rng: np.random.Generator, side: float) -> None:
    """Paint one row of houses, the farthest first."""
    height, width = canvas.height, canvas.width
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    across = np.where(np.abs(x - street.center) < 1, 1, (x - street.center) * np.sign(side))
    ahead = np.clip(street.focal * abs(side - LANE) / np.maximum(across, 1), 1, 300)
    up = np.maximum(EYE - (y - street.horizon) * ahead / street.focal, 0)
    light = street.light_at(side, up, ahead)
    texture = value_noise(rng, height, width, cell=height / 8, octaves=5)
    begins = [rng.uniform(3.0, 6.0)]
    while begins[-1] < 95:
        begins.append(begins[-1] + rng.uniform(9, 18))
    for begin, end in reversed(list(zip(begins, begins[1:], strict=False))):
        end -= rng.choice((0.0, 2.5, 5.0))
        top, warm = 3.2 * rng.integers(2, 6) + 0.8, rng.uniform(0.34, 0.46)
        paint = rng.uniform(0.22, 0.45) * np.array([1.0, rng.uniform(0.8, 0.95), 0.75])
        wall = (paint * (1 + 0.18 * texture[..., None])).astype(np.float32)
        front = street.quad((side, side * 2.2), (0, top), (begin, begin))
        canvas.polygon(front, ir=warm - 0.05 + 0.02 * texture, color=wall, light=DARK)
        face = street.quad((side, side), (0, top), (begin, end))
        canvas.polygon(face, ir=warm + 0.02 * texture, color=wall, light=light)
        for floor in np.arange(0.9, top - 2, 3.2):
            for at in np.arange(begin + 1.2, end - 1.8, 2.9):
                pane = street.quad((side, side), (floor, floor + 1.5), (at, at + 1.2))
                glass = warm + rng.uniform(-0.05, 0.05)
                canvas.polygon(pane, ir=glass, color=(0.03, 0.03, 0.04))
                if rng.random() < 0.2:
                    tint = np.array([1.0, rng.uniform(0.62, 0.85), rng.uniform(0.25, 0.6)])
                    tint = (rng.uniform(0.06, 0.28) * tint).astype(np.float32)
                    canvas.polygon(pane, ir=warm + 0.09, emission=tint)


def _draw_lamp(canvas: Canvas, street: Street, side: float, ahead: float, *, lit: bool) -> None:
    thick = 0.07 * street.focal / ahead
    light = float(street.light_at(side, 1.0, ahead))
    arm = side - np.sign(side) * 1.6
    foot, top, head = (
        street.point(side, 0, ahead),
        street.point(side, 7, ahead),
        street.point(arm, 7.2, ahead),
    )
    canvas.limb(foot, top, thick, ir=0.28, color=(0.2, 0.2, 0.2), light=light)
    canvas.limb(top, head, 0.7 * thick, ir=0.28, color=(0.2, 0.2, 0.2), light=light)
    size = 0.32 * street.focal / ahead
    if lit:
        glow = tuple(2.2 * value for value in LAMP)
        canvas.ellipse(head, (0.4 * size, size), ir=0.62, emission=(glow[0], glow[1], glow[2]))
    else:
        canvas.ellipse(head, (0.4 * size, size), ir=0.27, color=(0.1, 0.1, 0.1))


def _draw_person(
    canvas: Canvas, street: Street, rng: np.random.Generator, side: float, ahead: float
) -> None:
    """Paint someone walking, in dark clothes."""
    tall, scale = rng.uniform(1.6, 1.85), street.focal / ahead
    stride, turn = rng.uniform(0.06, 0.26), rng.choice((-1, 1))
    light = 0.6 * float(street.light_at(side, 1.0, ahead))
    warm = rng.uniform(0.84, 0.92)
    cloth = tuple(float(value) for value in rng.uniform(0.03, 0.12, 3))
    coat = cloth[0], cloth[1], cloth[2]

    def at(dx: float, up: float) -> Point:
        return street.point(side + turn * dx, up * tall, ahead)

    def limb(start: Point, end: Point, thick: float, heat: float) -> None:
        canvas.limb(start, end, thick * scale, ir=heat, color=coat, light=light, target=True)

    hip, shoulder = at(0, 0.50), at(0.03, 0.79)
    for swing, heat in ((-stride, warm - 0.14), (stride, warm - 0.10)):
        knee = at(0.55 * swing + 0.04, 0.27)
        limb(hip, knee, 0.085, heat)
        limb(knee, at(swing, 0.03), 0.06, heat - 0.06)
    limb(hip, shoulder, 0.16, warm - 0.05)
    for swing in (-0.8 * stride, 0.8 * stride):
        elbow = at(swing + 0.1 * np.sign(swing), 0.62)
        limb(at(0.12 * np.sign(swing), 0.79), elbow, 0.05, warm - 0.08)
        limb(elbow, at(1.5 * swing + 0.08, 0.50), 0.042, warm - 0.03)
    limb(shoulder, at(0.04, 0.86), 0.05, warm + 0.05)
    canvas.ellipse(
        at(0.05, 0.925),
        (0.125 * scale, 0.095 * scale),
        ir=warm + 0.07,
        color=(0.16, 0.12, 0.10),
        light=light,
        target=True,
    )


def _draw_car(
    canvas: Canvas, street: Street, rng: np.random.Generator, side: float, ahead: float, kind: str
) -> None:
    """Paint a car as slices from its far end to its near end."""
    scale = street.focal / ahead
    light = float(street.light_at(side, 0.4, ahead))
    base = rng.uniform(0.06, 0.35)
    paint = (base, base * rng.uniform(0.85, 1.05), base * rng.uniform(0.85, 1.15))
    running = kind != "parked"
    body, tyre = (0.47, 0.80) if running else (0.33, 0.31)
    shadow = street.quad((side - 0.9, side + 0.9), (0, 0), (ahead, ahead + 4.2))
    canvas.polygon(shadow, ir=0.60 if running else 0.36, color=(0.02, 0.02, 0.02), light=DARK)
    for depth in np.arange(4.2, -0.1, -0.3):
        at = ahead + depth
        hood = depth < 1.2 if kind == "oncoming" else depth > 3.0
        if abs(depth - 3.3) < 0.35 or abs(depth - 0.9) < 0.35:
            for wheel in (side - 0.78, side + 0.78):
                quad = street.quad((wheel - 0.1, wheel + 0.1), (0.02, 0.5), (at, at))
                canvas.polygon(quad, ir=tyre, color=(0.02, 0.02, 0.02), light=light)
        heat = 0.74 if hood and running else body
        lower = street.quad((side - 0.86, side + 0.86), (0.32, 0.88), (at, at))
        canvas.polygon(lower, ir=heat, color=paint, light=light, radius=0.05 * scale)
        if 0.9 < depth < 3.6:
            lean = 0.62 if 1.3 < depth < 3.2 else 0.70
            roof = 1.45 if 1.3 < depth < 3.2 else 1.18
            cabin = [
                street.point(side + s, u, at)
                for s, u in ((-0.8, 0.9), (0.8, 0.9), (lean, roof), (-lean, roof))
            ]
            canvas.polygon(cabin, ir=body - 0.04, color=paint, light=light)
    glass = [
        street.point(side + s, u, ahead + 1.0)
        for s, u in ((-0.7, 0.94), (0.7, 0.94), (0.56, 1.36), (-0.56, 1.36))
    ]
    canvas.polygon(glass, ir=body - 0.13, color=(0.03, 0.03, 0.04), light=light)
    plate = street.quad((side - 0.26, side + 0.26), (0.5, 0.62), (ahead, ahead))
    canvas.polygon(plate, ir=body - 0.05, color=(0.5, 0.5, 0.45), light=light)
    if kind == "oncoming":
        grille = street.quad((side - 0.5, side + 0.5), (0.38, 0.74), (ahead, ahead))
        canvas.polygon(grille, ir=0.93, color=(0.04, 0.04, 0.04))
    if kind == "leading":
        exhaust = street.point(side + 0.5, 0.3, ahead)
        canvas.ellipse(exhaust, (0.07 * scale, 0.09 * scale), ir=1.0, color=(0.02, 0.02, 0.02))
    for lamp in (side - 0.66, side + 0.66):
        spot, size = street.point(lamp, 0.7, ahead), 0.10 * scale
        if kind == "oncoming":
            canvas.ellipse(spot, (size, 1.3 * size), ir=0.7, emission=(4.5, 4.4, 4.0))
        elif kind == "leading":
            canvas.ellipse(spot, (0.7 * size, 1.4 * size), ir=0.5, emission=(0.9, 0.05, 0.03))
        else:
            canvas.ellipse(spot, (0.7 * size, 1.4 * size), color=(0.3, 0.05, 0.04), light=light)
