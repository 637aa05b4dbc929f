"""Who is where in a synthetic scene: vehicles in their lanes, people on the sidewalks, trees at the kerb.

World coordinates as in `synthetic_canvas`: metres, x to the right, z ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from upsnet.data.synthetic_canvas import Camera, Dice, Point
from upsnet.data.synthetic_objects import Heading
from upsnet.data.synthetic_street import Side, Street

Kind = Literal["car", "bus", "person", "rider", "bicycle", "sign", "tree", "lamp", "bin"]

AHEAD: Heading = (0.0, 1.0)
TOWARDS: Heading = (0.0, -1.0)
LENGTH = {"car": 4.2, "bus": 10.0}
CROWD = 0
"""Instance number of everybody in the crowd; instances proper count from 1, scenery has -1."""
SCENERY = -1

# Bounding slabs for the placement tests: half width, lowest and highest point in metres.
_EXTENT: dict[str, tuple[float, float, float]] = {
    "car": (0.95, 0.0, 1.5),
    "bus": (1.3, 0.0, 3.1),
    "person": (0.42, 0.0, 1.75),
    "rider": (0.42, 0.3, 2.0),
    "bicycle": (0.9, 0.0, 1.0),
    "sign": (0.6, 1.8, 3.0),
}

Box = tuple[float, float, float, float]
"""Left, top, right, bottom on the canvas."""


@dataclass(frozen=True)
class Actor:
    """One object on the street. `place` is its foot; a vehicle's is the middle of its nearest end."""

    kind: Kind
    place: Point
    heading: Heading
    instance: int


@dataclass(frozen=True)
class Frame:
    """The canvas' camera and size, to judge what will be seen of an actor."""

    camera: Camera
    height: int
    width: int

    def box(self, actor: Actor) -> Box:
        """The actor's bounding box, not cut at the border."""
        half, low, high = _EXTENT[actor.kind]
        x, y, z = actor.place
        if abs(actor.heading[0]) > 0.5 and actor.kind in LENGTH:
            half = LENGTH[actor.kind] / 2
        left, top = self.camera.project((x - half, y + high, z))
        right, bottom = self.camera.project((x + half, y + low, z))
        return left, top, right, bottom

    def shown(self, box: Box) -> float:
        """Area of the box inside the picture, zero where that part is too thin to be recognised."""
        left, top, right, bottom = box
        wide = min(right, self.width) - max(left, 0.0)
        tall = min(bottom, self.height) - max(top, 0.0)
        return wide * tall if min(wide, tall) >= self.height * 0.045 else 0.0


def plan_actors(dice: Dice, frame: Frame, street: Street, max_instances: int) -> list[Actor]:
    """Things in the order of their instance number, then crowd and scenery."""
    actors: list[Actor] = []
    wanted = min(_count(dice), max_instances)
    for _ in range(wanted * 4):
        number = sum(actor.instance > 0 for actor in actors) + 1
        if number > wanted:
            break
        candidate = dice.pick(_MAKERS)(dice, street, number)
        if candidate is not None and _fits(frame, candidate, actors):
            actors.append(candidate)
            if candidate.kind == "bicycle" and number < wanted and dice.chance(0.4):
                x, y, z = candidate.place
                actors.append(Actor("rider", (x, y + 0.3, z + 0.02), AHEAD, number + 1))
    if max_instances and dice.chance(0.16):
        actors += _crowd(dice, street)
    return actors + _scenery(dice, street)


def _count(dice: Dice) -> int:
    """How many things: mostly 3 to 10, now and then none or a full street."""
    kind = dice.integer(0, 19)
    if kind == 0:
        return 0
    return dice.integer(11, 25) if kind < 4 else dice.integer(3, 10)


def _near(dice: Dice, nearest: float, farthest: float) -> float:
    """A distance such that sizes in the picture, not metres, are spread evenly."""
    return 1 / dice.uniform(1 / farthest, 1 / nearest)


def _driving(dice: Dice, street: Street, kind: Kind, number: int) -> Actor:
    z = _near(dice, 5.0, 24.0) if kind == "car" else _near(dice, 8.0, 26.0)
    lane = dice.integer(-1, street.own_lanes - 1)
    x = lane * street.lane + dice.uniform(-0.3, 0.3)
    if kind == "car" and dice.chance(0.16):
        return Actor(kind, (dice.uniform(-5, 5), 0.0, z + 1.5), (float(dice.pick((-1, 1))), 0.0), number)
    return Actor(kind, (x, 0.0, z), TOWARDS if lane < 0 else AHEAD, number)


def _parked(dice: Dice, street: Street, number: int) -> Actor | None:
    side = dice.pick(street.sides)
    kerb = street.lane * (1.5 if side.sign < 0 else street.own_lanes - 0.5)
    if side.road - kerb < 1.5:
        return None
    x = side.sign * (side.road - 1.05)
    return Actor("car", (x, 0.0, _near(dice, 3.4, 22.0)), AHEAD if side.sign > 0 else TOWARDS, number)


def _walking(dice: Dice, street: Street, number: int) -> Actor:
    z = _near(dice, 4.2, 14.0)
    if street.crossing and dice.chance(0.35):
        x = dice.uniform(-street.sides[0].road, street.sides[1].road)
        return Actor("person", (x, 0.0, street.crossing + dice.uniform(-1, 1)), AHEAD, number)
    side = dice.pick(street.sides)
    return Actor(
        "person", (side.sign * dice.uniform(side.road + 0.3, side.plane - 0.4), 0.0, z), AHEAD, number
    )


def _cycling(dice: Dice, street: Street, number: int) -> Actor:
    side = dice.pick(street.sides)
    x = side.sign * dice.uniform(side.road - 0.8, side.paving - 0.2)
    return Actor("bicycle", (x, 0.0, _near(dice, 4.2, 12.0)), AHEAD, number)


def _sign(dice: Dice, street: Street, number: int) -> Actor:
    side = dice.pick(street.sides)
    x = side.sign * (side.road + dice.uniform(0.3, 0.7))
    return Actor("sign", (x, 0.0, _near(dice, 4.5, 13.0)), AHEAD, number)


def _car(dice: Dice, street: Street, number: int) -> Actor:
    return _driving(dice, street, "car", number)


def _bus(dice: Dice, street: Street, number: int) -> Actor:
    return _driving(dice, street, "bus", number)


_MAKERS: tuple[Callable[[Dice, Street, int], Actor | None], ...] = (
    *(_car, _car, _car, _parked, _parked, _parked, _bus, _bus),
    *(_walking, _walking, _walking, _walking, _walking, _cycling, _cycling, _cycling, _sign, _sign, _sign),
)


def _fits(frame: Frame, candidate: Actor, actors: list[Actor]) -> bool:
    """Whether the newcomer is seen well, hides nobody nearly wholly, and bumps into nobody."""
    box = frame.box(candidate)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    if frame.shown(box) < 0.35 * whole:
        return False
    for other in actors:
        if _collide(candidate, other):
            return False
        other_box = frame.box(other)
        far = box if candidate.place[2] > other.place[2] else other_box
        common = _common(box, other_box)
        if common > 0.5 * (far[2] - far[0]) * (far[3] - far[1]):
            return False
    return True


def _collide(a: Actor, b: Actor) -> bool:
    ax0, az0, ax1, az1 = _footprint(a)
    bx0, bz0, bx1, bz1 = _footprint(b)
    return ax0 < bx1 and bx0 < ax1 and az0 < bz1 and bz0 < az1


def _footprint(actor: Actor) -> Box:
    """x from, z from, x to, z to, with a little room around."""
    half, _, _ = _EXTENT[actor.kind]
    x, _, z = actor.place
    length = LENGTH.get(actor.kind, 0.3)
    if abs(actor.heading[0]) > 0.5 and actor.kind in LENGTH:
        return x - length / 2, z - 0.4, x + length / 2, z + 2 * half
    return x - half, z - 0.4, x + half, z + length + 0.4


def _common(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(tall, 0.0)


def _crowd(dice: Dice, street: Street) -> list[Actor]:
    """A group of people too far away to be told apart."""
    side = dice.pick(street.sides)
    z = dice.uniform(15, 24)
    middle = side.sign * dice.uniform(side.road - 1.0, side.plane - 1.0)
    return [
        Actor("person", (middle + dice.uniform(-1.6, 1.6), 0.0, z + dice.uniform(-1, 1)), AHEAD, CROWD)
        for _ in range(dice.integer(7, 14))
    ]


def _scenery(dice: Dice, street: Street) -> list[Actor]:
    actors = []
    for side in street.sides:
        likely = {"houses": 0.4, "park": 0.95, "garden": 0.4}[side.kind]
        if dice.chance(likely):
            actors += _trees(dice, side, street.end)
        if dice.chance(0.35):
            offset = dice.uniform(6, 18)
            lamps = [(side.sign * (side.road + 0.4), 0.0, offset + 20.0 * k) for k in range(3)]
            actors += [Actor("lamp", place, (float(-side.sign), 0.0), SCENERY) for place in lamps]
        if dice.chance(0.2):
            place = (side.sign * (side.paving - 0.6), 0.0, _near(dice, 5, 14))
            actors.append(Actor("bin", place, AHEAD, SCENERY))
    return actors


def _trees(dice: Dice, side: Side, end: float) -> list[Actor]:
    actors = []
    z = dice.uniform(6, 12)
    while z < min(end, 60.0):
        low, high = side.paving - 0.7, max(side.plane - 1.5, side.paving - 0.6)
        actors.append(Actor("tree", (side.sign * dice.uniform(low, high), 0.0, z), AHEAD, SCENERY))
        z += dice.uniform(5, 10) * (1 + z / 40)
    return actors
