"""What stands and moves on the street: vehicles, people, bicycles, signs, trees and poles.

Solids are boxes with slanted sides in their own frame (metres: along the length, across the width, up), and
turned to a heading. Flat figures stand upright across the view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from upsnet.data.synthetic_canvas import Camera, Canvas, Color, Dice, Light, Pixel, Point

Face = tuple[Point, Point, Point, Point]
"""Corners: bottom left, bottom right, top right, top left, seen from outside."""

Heading = tuple[float, float]
"""Unit vector (x, z) of an object's length: (0, 1) drives away from us, (1, 0) to the right."""

RUBBER: Color = (26, 26, 28)
GLASS: Color = (52, 66, 84)
CHROME: Color = (176, 178, 184)
HEADLIGHT: Color = (255, 250, 226)
TAIL_LIGHT: Color = (226, 30, 34)
SKINS: tuple[Color, ...] = ((236, 196, 166), (206, 154, 118), (150, 100, 70), (98, 66, 48))
HAIR: tuple[Color, ...] = ((38, 30, 26), (92, 62, 38), (176, 146, 92), (140, 136, 132))
CAR_PAINTS: tuple[Color, ...] = (
    (34, 62, 150),
    (52, 110, 190),
    (170, 24, 36),
    (214, 216, 220),
    (150, 156, 164),
    (40, 44, 54),
    (28, 112, 120),
)
BUS_PAINTS: tuple[Color, ...] = ((244, 190, 24), (250, 206, 52), (238, 172, 20))
SHIRTS: tuple[Color, ...] = (
    (220, 40, 60),
    (240, 96, 40),
    (232, 60, 130),
    (150, 50, 170),
    (40, 90, 200),
    (240, 240, 236),
    (60, 60, 66),
)
TROUSERS: tuple[Color, ...] = ((34, 44, 84), (48, 46, 50), (70, 84, 130), (116, 92, 66))
SIGN_RED: Color = (206, 24, 34)
SIGN_WHITE: Color = (246, 246, 242)
SIGN_BLUE: Color = (24, 82, 190)
LEAVES: tuple[Color, ...] = ((58, 116, 48), (74, 132, 52), (48, 100, 56), (92, 140, 60))


@dataclass(frozen=True)
class Brush:
    """Where and in which light one object is painted, and its layer number."""

    canvas: Canvas
    camera: Camera
    light: Light
    layer: int

    def face(self, corners: Sequence[Point], color: Color, facing: int | None = 0) -> None:
        """Fills a flat convex face."""
        depth = min(point[2] for point in corners)
        self.canvas.polygon(
            [self.camera.project(p) for p in corners], self.light.on(color, depth, facing), self.layer
        )

    def glow(self, corners: Sequence[Point], color: Color) -> None:
        """A face that shines by itself when it is dark."""
        lit = color if self.light.dark else self.light.on(color, corners[0][2], 0)
        self.canvas.polygon([self.camera.project(p) for p in corners], lit, self.layer)


@dataclass(frozen=True)
class Solid:
    """A box in its own frame; the top may be smaller than the bottom.

    Attributes:
        bottom, top: (along from, along to, half width, height above the ground) in metres.
    """

    bottom: tuple[float, float, float, float]
    top: tuple[float, float, float, float]

    def faces(self, place: Point, heading: Heading) -> dict[str, Face]:
        """Its five visible candidates in the world."""
        corners = []
        for start, stop, half, up in (self.bottom, self.top):
            frame = ((start, -half), (stop, -half), (stop, half), (start, half))
            corners += [_turned(place, heading, along, across, up) for along, across in frame]
        a, b, c, d, e, f, g, h = corners
        return {
            "back": (a, d, h, e),
            "front": (c, b, f, g),
            "left": (b, a, e, f),
            "right": (d, c, g, h),
            "top": (e, h, g, f),
        }


def _turned(place: Point, heading: Heading, along: float, across: float, up: float) -> Point:
    """A point of the own frame in the world; across is to the right of the heading."""
    x, y, z = place
    hx, hz = heading
    return x + along * hx + across * hz, y + up, z + along * hz - across * hx


def visible(camera: Camera, face: Face) -> bool:
    """Whether we look at the outside of the face."""
    (ax, ay), (bx, by), _, (dx, dy) = (camera.project(point) for point in face)
    return (bx - ax) * (dy - ay) - (by - ay) * (dx - ax) < 0


def patch(face: Face, left: float, right: float, low: float, high: float) -> Face:
    """The part of a face between shares 0..1 of its width and height."""

    def at(u: float, v: float) -> Point:
        x, y, z = (
            (p * (1 - u) + q * u) * (1 - v) + (s * (1 - u) + r * u) * v
            for p, q, r, s in zip(*face, strict=True)
        )
        return x, y, z

    return at(left, low), at(right, low), at(right, high), at(left, high)


def paint_car(brush: Brush, dice: Dice, place: Point, heading: Heading) -> None:
    """A car of 4.2 x 1.8 x 1.5 m; `place` is the middle of its back at the ground."""
    paint = dice.jitter(dice.pick(CAR_PAINTS), 14)
    tall = dice.uniform(1.36, 1.62)
    body = Solid((0.0, 4.2, 0.9, 0.22), (0.05, 4.1, 0.86, 0.86))
    cabin = Solid((0.15, 3.1, 0.82, 0.86), (0.55, 2.3, 0.64, tall))
    chassis = Solid((0.1, 4.1, 0.82, 0.0), (0.1, 4.1, 0.82, 0.3))
    for name, face in _seen(brush, chassis, place, heading):
        if name != "top":
            _wheels(brush, face, name)
    for name, face in _seen(brush, body, place, heading):
        brush.face(face, paint, _facing(name, heading))
        if name in ("back", "front"):
            _bumper(brush, face, name)
        elif name in ("left", "right"):
            _wheels_on_side(brush, face)
    for name, face in _seen(brush, cabin, place, heading):
        brush.face(face, paint, _facing(name, heading))
        if name in ("back", "front"):
            brush.face(patch(face, 0.06, 0.94, 0.1, 0.86), GLASS)
        elif name in ("left", "right"):
            brush.face(patch(face, 0.08, 0.47, 0.08, 0.86), GLASS)
            brush.face(patch(face, 0.53, 0.92, 0.08, 0.86), GLASS)


def _wheels(brush: Brush, face: Face, name: str) -> None:
    """Tyres below the body, seen from the back or the front; the shade between them."""
    if name in ("back", "front"):
        brush.face(patch(face, 0.1, 0.9, 0.5, 1.0), (30, 30, 32))
        brush.face(patch(face, 0.02, 0.17, 0.0, 1.0), RUBBER)
        brush.face(patch(face, 0.83, 0.98, 0.0, 1.0), RUBBER)


def _wheels_on_side(brush: Brush, face: Face) -> None:
    for middle in (0.19, 0.8):
        _disc(brush, _spot(face, middle, 0.13), face, 0.33, RUBBER)
        _disc(brush, _spot(face, middle, 0.13), face, 0.18, CHROME)


def _spot(face: Face, u: float, v: float) -> Point:
    return patch(face, u, u, v, v)[0]


def _disc(brush: Brush, middle: Point, face: Face, radius: float, color: Color) -> None:
    """A wheel in the plane of a side face: an octagon."""
    (ax, _, az), (bx, _, bz) = face[0], face[1]
    length = math.sqrt((bx - ax) * (bx - ax) + (bz - az) * (bz - az))
    ux, uz = (bx - ax) / length, (bz - az) / length
    ring = ((1.0, 0.0), (0.8, 0.6), (0.6, 0.8), (0.0, 1.0), (-0.6, 0.8), (-0.8, 0.6))
    points = [*ring, *((-c, -s) for c, s in ring)]
    corners = [
        (middle[0] + ux * c * radius, middle[1] + s * radius, middle[2] + uz * c * radius) for c, s in points
    ]
    brush.face([(x, max(y, 0.0), z) for x, y, z in corners], color)


def _bumper(brush: Brush, face: Face, name: str) -> None:
    """Lamps, number plate and bumper of a car."""
    brush.face(patch(face, 0.02, 0.98, 0.0, 0.26), (44, 46, 50))
    lamp = TAIL_LIGHT if name == "back" else HEADLIGHT
    brush.glow(patch(face, 0.03, 0.22, 0.52, 0.8), lamp)
    brush.glow(patch(face, 0.78, 0.97, 0.52, 0.8), lamp)
    brush.face(patch(face, 0.36, 0.64, 0.28, 0.48), (236, 236, 230))
    if name == "front":
        brush.face(patch(face, 0.28, 0.72, 0.56, 0.78), (40, 42, 46))


def paint_bus(brush: Brush, dice: Dice, place: Point, heading: Heading) -> None:
    """A city bus of 10 x 2.5 x 3.1 m."""
    paint = dice.jitter(dice.pick(BUS_PAINTS), 8)
    chassis = Solid((0.1, 9.9, 1.15, 0.0), (0.1, 9.9, 1.15, 0.4))
    body = Solid((0.0, 10.0, 1.25, 0.32), (0.05, 9.95, 1.22, 3.1))
    for name, face in _seen(brush, chassis, place, heading):
        if name != "top":
            _wheels(brush, face, name)
    for name, face in _seen(brush, body, place, heading):
        brush.face(face, paint, _facing(name, heading))
        if name in ("back", "front"):
            _bus_end(brush, face, name)
        elif name in ("left", "right"):
            _bus_side(brush, face)


def _bus_end(brush: Brush, face: Face, name: str) -> None:
    """Window, line display and lamps at the back or the front of a bus."""
    front = name == "front"
    brush.face(patch(face, 0.06, 0.94, 0.42 if front else 0.55, 0.84), GLASS)
    brush.glow(patch(face, 0.2, 0.8, 0.87, 0.96), (250, 240, 180) if front else (30, 30, 30))
    for left in (0.04, 0.82):
        brush.glow(patch(face, left, left + 0.14, 0.08, 0.18), HEADLIGHT if front else TAIL_LIGHT)


def _bus_side(brush: Brush, face: Face) -> None:
    for pane in range(6):
        brush.face(patch(face, 0.03 + pane * 0.16, 0.17 + pane * 0.16, 0.48, 0.84), GLASS)
    brush.face(patch(face, 0.0, 1.0, 0.14, 0.22), (214, 60, 40))
    for middle in (0.2, 0.78):
        _disc(brush, _spot(face, middle, 0.05), face, 0.48, RUBBER)
        _disc(brush, _spot(face, middle, 0.05), face, 0.24, CHROME)


def _seen(brush: Brush, solid: Solid, place: Point, heading: Heading) -> list[tuple[str, Face]]:
    faces = solid.faces(place, heading)
    return [(name, face) for name, face in faces.items() if visible(brush.camera, face)]


def _facing(name: str, heading: Heading) -> int | None:
    """Which way a face looks, for the sun: left, right, to or from us (0), up (None)."""
    if name == "top":
        return None
    hx, hz = heading
    x = {"back": -hx, "front": hx, "left": -hz, "right": hz}[name]
    return 0 if abs(x) < 0.5 else (1 if x > 0 else -1)


def _slab(place: Point, x0: float, y0: float, x1: float, y1: float, thick: float) -> list[Point]:
    """An upright bar between two points of a figure, `thick` wide in x."""
    x, y, z = place
    half = thick / 2
    return [
        (x + x0 - half, y + y0, z),
        (x + x0 + half, y + y0, z),
        (x + x1 + half, y + y1, z),
        (x + x1 - half, y + y1, z),
    ]


def _bar(place: Point, x0: float, y0: float, x1: float, y1: float, thick: float) -> list[Point]:
    """The same for a bar that lies rather than stands: `thick` high in y."""
    x, y, z = place
    half = thick / 2
    return [
        (x + x0, y + y0 - half, z),
        (x + x1, y + y1 - half, z),
        (x + x1, y + y1 + half, z),
        (x + x0, y + y0 + half, z),
    ]


def _round(brush: Brush, place: Point, x: float, y: float, rx: float, ry: float, color: Color) -> None:
    """An ellipse of a flat figure."""
    center, radii = _oval(brush.camera, place, x, y, rx, ry)
    brush.canvas.ellipse(center, radii, brush.light.on(color, place[2], 0), brush.layer)


def _oval(camera: Camera, place: Point, x: float, y: float, rx: float, ry: float) -> tuple[Pixel, Pixel]:
    center = camera.project((place[0] + x, place[1] + y, place[2]))
    scale = camera.focal / place[2]
    return center, (rx * scale, ry * scale)


def paint_person(brush: Brush, dice: Dice, place: Point, *, riding: bool = False) -> None:
    """A standing, walking or riding person of 1.5 to 1.9 m; `place` is between the feet."""
    size = dice.uniform(0.86, 1.08)
    shirt, trousers = dice.jitter(dice.pick(SHIRTS), 16), dice.jitter(dice.pick(TROUSERS), 10)
    skin, hair = dice.pick(SKINS), dice.pick(HAIR)
    stride = 0.3 if riding else dice.uniform(0.05, 0.3)
    swing = dice.uniform(0.05, 0.22)

    def limb(x0: float, y0: float, x1: float, y1: float, thick: float, color: Color) -> None:
        brush.face(_slab(place, x0 * size, y0 * size, x1 * size, y1 * size, thick * size), color)

    for side in (-1, 1):
        limb(side * stride, 0.06, side * 0.09, 0.88, 0.19, trousers)
        limb(side * stride, 0.0, side * stride, 0.09, 0.25, (40, 34, 32))
    for side in (-1, 1):
        limb(side * (0.2 + swing), 0.82, side * 0.2, 1.42, 0.13, shirt)
        limb(side * (0.21 + swing), 0.74, side * (0.2 + swing), 0.84, 0.12, skin)
    limb(0.0, 0.82, 0.0, 1.2, 0.4, shirt)
    limb(0.0, 1.15, 0.0, 1.47, 0.46, shirt)
    limb(0.0, 1.44, 0.0, 1.54, 0.14, skin)
    _round(brush, place, 0.0, 1.64 * size, 0.13 * size, 0.16 * size, skin)
    _round(brush, place, 0.0, 1.72 * size, 0.14 * size, 0.1 * size, hair)


def paint_bicycle(brush: Brush, dice: Dice, place: Point) -> None:
    """A bicycle across the view, 1.75 m long; `place` is below its middle."""
    paint = dice.jitter(dice.pick(((190, 40, 120), (30, 170, 170), (230, 120, 30), (120, 60, 180))), 16)
    way = dice.pick((-1, 1))
    for x in (-0.54, 0.54):
        _round(brush, place, x, 0.35, 0.36, 0.36, RUBBER)
        center, radii = _oval(brush.camera, place, x, 0.35, 0.29, 0.29)
        spokes = brush.light.on((196, 200, 206), place[2], 0)
        brush.canvas.ellipse(center, radii, spokes, brush.layer)
        _round(brush, place, x, 0.35, 0.06, 0.06, RUBBER)
    frame = (
        (-0.54, 0.35, -0.08, 0.3),
        (-0.54, 0.35, -0.22, 0.74),
        (-0.2, 0.74, 0.34, 0.8),
        (-0.08, 0.3, 0.36, 0.74),
    )
    for x0, y0, x1, y1 in frame:
        brush.face(_bar(place, way * x0, y0, way * x1, y1, 0.09), paint)
    brush.face(_slab(place, way * 0.54, 0.35, way * 0.34, 0.95, 0.08), paint)
    brush.face(_slab(place, way * -0.08, 0.3, way * -0.25, 0.9, 0.08), paint)
    brush.face(_bar(place, way * -0.4, 0.93, way * -0.1, 0.93, 0.09), RUBBER)
    brush.face(_bar(place, way * 0.24, 0.98, way * 0.5, 0.98, 0.08), RUBBER)


def paint_sign(brush: Brush, pole: Brush, dice: Dice, place: Point) -> None:
    """A traffic sign; its pole is another layer (void: nobody labels it)."""
    middle, radius = dice.uniform(2.2, 2.7), dice.uniform(0.42, 0.56)
    pole.face(_slab(place, 0.0, 0.0, 0.0, middle, 0.09), (120, 122, 126))
    paint = dice.pick((_speed_limit, _no_entry, _give_way, _follow, _guide_board))
    paint(brush, (place[0], place[1] + middle, place[2]), radius)


def _speed_limit(brush: Brush, middle: Point, r: float) -> None:
    _round(brush, middle, 0, 0, r, r, SIGN_RED)
    _round(brush, middle, 0, 0, r * 0.72, r * 0.72, SIGN_WHITE)
    for x in (-0.28, 0.28):
        brush.face(_slab(middle, x * r, -r * 0.35, x * r, r * 0.35, r * 0.26), (30, 30, 34))


def _no_entry(brush: Brush, middle: Point, r: float) -> None:
    _round(brush, middle, 0, 0, r, r, SIGN_RED)
    brush.face(_bar(middle, -r * 0.7, 0, r * 0.7, 0, r * 0.36), SIGN_WHITE)


def _give_way(brush: Brush, middle: Point, r: float) -> None:
    for scale, color in ((1.15 * r, SIGN_RED), (0.66 * r, SIGN_WHITE)):
        brush.face(_triangle(middle, scale, 0.6 * scale, -scale), color)


def _follow(brush: Brush, middle: Point, r: float) -> None:
    """A white arrow on blue: the direction to take."""
    _round(brush, middle, 0, 0, r, r, SIGN_WHITE)
    _round(brush, middle, 0, 0, r * 0.9, r * 0.9, SIGN_BLUE)
    brush.face(_slab(middle, 0, -r * 0.6, 0, r * 0.2, r * 0.26), SIGN_WHITE)
    brush.face(_triangle(middle, r * 0.4, r * 0.1, r * 0.68), SIGN_WHITE)


def _guide_board(brush: Brush, middle: Point, r: float) -> None:
    brush.face(_bar(middle, -r * 1.7, 0, r * 1.7, 0, r * 1.9), SIGN_WHITE)
    brush.face(_bar(middle, -r * 1.6, 0, r * 1.6, 0, r * 1.7), SIGN_BLUE)
    for up in (0.4, -0.1):
        brush.face(_bar(middle, -r * 1.2, up * r, r * 0.9, up * r, r * 0.26), SIGN_WHITE)


def _triangle(place: Point, half: float, base: float, tip: float) -> list[Point]:
    """A level base of half width `half` and a tip, both heights above `place`."""
    x, y, z = place
    return [(x - half, y + base, z), (x + half, y + base, z), (x, y + tip, z)]


def paint_tree(brush: Brush, dice: Dice, place: Point) -> None:
    """A tree: trunk and a crown of overlapping clumps, brighter to the sun."""
    tall = dice.uniform(4.5, 8.5)
    broad = tall * dice.uniform(0.22, 0.32)
    leaves = dice.jitter(dice.pick(LEAVES), 12)
    brush.face(_slab(place, 0.0, 0.0, 0.0, tall * 0.6, tall * 0.05), (92, 70, 52), None)
    for _ in range(9):
        x, up = dice.uniform(-broad, broad) * 0.8, dice.uniform(0.48, 0.9) * tall
        bright = 1 + 0.18 * brush.light.sun * x / broad + 0.3 * (up / tall - 0.7)
        color = (int(leaves[0] * bright), int(leaves[1] * bright), int(leaves[2] * bright))
        clump = broad * dice.uniform(0.42, 0.62)
        _round(brush, place, x, up, clump, clump * 0.85, color)


def paint_lamp(brush: Brush, place: Point, arm: int) -> None:
    """A street lamp with its arm over the road."""
    brush.face(_slab(place, 0.0, 0.0, 0.0, 6.5, 0.14), (86, 90, 94), None)
    brush.face(_bar(place, 0.0, 6.5, arm * 1.6, 6.7, 0.1), (86, 90, 94), None)
    brush.glow(_bar(place, arm * 1.1, 6.62, arm * 1.9, 6.66, 0.16), (255, 240, 190))


def paint_bin(brush: Brush, dice: Dice, place: Point) -> None:
    """A street cabinet or litter bin that the data set has no class for."""
    color = dice.jitter(dice.pick(((104, 116, 104), (92, 96, 108), (132, 104, 76))), 12)
    solid = Solid((0.0, 0.6, 0.4, 0.0), (0.0, 0.6, 0.4, 1.1))
    for name, face in _seen(brush, solid, place, (0.0, 1.0)):
        brush.face(face, color, _facing(name, (0.0, 1.0)))
        if name == "back":
            brush.face(patch(face, 0.1, 0.9, 0.78, 0.86), (30, 30, 30))
