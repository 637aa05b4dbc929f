"""Street scenes that the program paints itself, with exact panoptic truth: data for laptops, tests and demos.

Shapes: H x W pixels. The same seed, split and index give the same bytes on every machine (see
`synthetic_canvas` for how). A scene is painted from far to near at twice its size, together with the layer
number of every pixel; the truth is what remains visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from upsnet.config import SyntheticConfig
from upsnet.data import synthetic_objects as objects
from upsnet.data.synthetic_canvas import Camera, Canvas, Color, Dice, Light
from upsnet.data.synthetic_objects import Brush
from upsnet.data.synthetic_street import VEGETATION, Street, paint_street, plan_street, smooth_noise
from upsnet.data.synthetic_traffic import CROWD, LENGTH, TOWARDS, Actor, Frame, plan_actors
from upsnet.structures import VOID, Category, Segment

CATEGORIES: tuple[Category, ...] = (
    Category(7, "road", False, (128, 64, 128), "ground"),
    Category(8, "sidewalk", False, (244, 35, 232), "ground"),
    Category(11, "building", False, (70, 70, 70), "construction"),
    Category(12, "wall", False, (102, 102, 156), "construction"),
    Category(21, "vegetation", False, (107, 142, 35), "nature"),
    Category(22, "terrain", False, (152, 251, 152), "nature"),
    Category(23, "sky", False, (70, 130, 180), "sky"),
    Category(20, "traffic sign", True, (220, 220, 0), "object"),
    Category(24, "person", True, (220, 20, 60), "human"),
    Category(26, "car", True, (0, 0, 142), "vehicle"),
    Category(28, "bus", True, (0, 60, 100), "vehicle"),
    Category(33, "bicycle", True, (119, 11, 32), "vehicle"),
)
"""Stuff first, then things, each by ascending category_id; ids with gaps, as in real data sets."""

_SPLIT_NUMBER = {"train": 0, "val": 1}
_CATEGORY_OF_KIND = {"car": 26, "bus": 28, "person": 24, "rider": 24, "bicycle": 33, "sign": 20}

# Layer numbers: VOID, category_ids of stuff (all below 100), then one per thing; the crowd comes first.
_FIRST_THING = 100

# Segments of fewer visible pixels than the image's area / 512 become void, as an annotator would skip them:
# 64 pixels at 128 x 256.
_SMALLEST_PART = 512


@dataclass(frozen=True)
class Scene:
    """One painted street.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        panoptic_map: (H, W) int32 segment ids 1..n without gaps, VOID where unlabelled.
        segments: one entry per id, in id order; bbox and area counted from `panoptic_map`.
    """

    image: np.ndarray
    panoptic_map: np.ndarray
    segments: tuple[Segment, ...]


def render_scene(config: SyntheticConfig, split: Literal["train", "val"], index: int) -> Scene:
    """Paints scene `index` of a split.

    Every scene has its own random stream, so any order and any number of processes give the same bytes.
    """
    dice = Dice(config.seed, _SPLIT_NUMBER[split], index)
    # Textures take more numbers on larger images; with their own stream the street is the same at any size.
    texture = Dice(config.seed, _SPLIT_NUMBER[split], index, 1)
    # Very large images need no smoothing of their edges, and twice their size would need gigabytes.
    scale = 2 if config.height < 1024 else 1
    canvas = Canvas(config.height * scale, config.width * scale)
    light, camera, street = _plan_light(dice), _plan_camera(dice, canvas), plan_street(dice)
    frame = Frame(camera, *canvas.layers.shape)
    actors = plan_actors(dice, frame, street, config.max_instances)
    paint_street(canvas, camera, light, street, texture)
    _paint_shadows(canvas, camera, light, street, actors)
    for actor in sorted(actors, key=lambda actor: -actor.place[2]):
        _paint_actor(canvas, camera, light, actor, dice)
    if dice.chance(0.3):
        _paint_hood(canvas, light, dice)
    image = _develop(canvas, scale, texture)
    kinds = {actor.instance: actor.kind for actor in actors if actor.instance >= CROWD}
    categories = {_FIRST_THING + number: _CATEGORY_OF_KIND[kind] for number, kind in kinds.items()}
    return _truth(image, canvas.layers[scale - 1 :: scale, scale - 1 :: scale], categories)


def _plan_light(dice: Dice) -> Light:
    """Noon, low sun, overcast or dusk, each a little different every time."""
    ambient, haze, top, low, dark = dice.pick(_DAYTIMES)
    gain = dice.uniform(0.88, 1.1)
    r, g, b = (channel * gain * dice.uniform(0.96, 1.04) for channel in ambient)
    sun = 0 if low == _OVERCAST else dice.pick((-1, 1))
    distance = dice.uniform(90, 220)
    return Light((r, g, b), sun, haze, distance, dice.jitter(top, 12), dice.jitter(low, 8), dark)


_OVERCAST: Color = (212, 216, 222)
_Daytime = tuple[tuple[float, float, float], Color, Color, Color, bool]
_DAYTIMES: tuple[_Daytime, ...] = (
    ((1.0, 1.0, 1.0), (196, 210, 226), (84, 148, 226), (190, 216, 242), False),
    ((1.04, 1.02, 0.98), (206, 212, 220), (70, 136, 220), (200, 222, 240), False),
    ((1.08, 0.98, 0.84), (226, 206, 180), (120, 168, 218), (250, 222, 180), False),
    ((0.86, 0.89, 0.93), (200, 206, 212), (172, 182, 194), _OVERCAST, False),
    ((0.62, 0.56, 0.64), (150, 120, 124), (70, 84, 146), (240, 156, 112), True),
)
"""Ambient light, haze, sky at the top, sky at the horizon, whether lamps are lit."""


def _plan_camera(dice: Dice, canvas: Canvas) -> Camera:
    height, width = canvas.layers.shape
    center, horizon = width * dice.uniform(0.38, 0.62), height * dice.uniform(0.4, 0.5)
    # Upright pictures get a wider angle, or one bus would fill them.
    focal = min(height, width * 0.75) * dice.uniform(1.15, 1.4)
    return Camera(center, horizon, focal, dice.uniform(1.5, 2.1))


def _paint_shadows(
    canvas: Canvas, camera: Camera, light: Light, street: Street, actors: Sequence[Actor]
) -> None:
    """Darkens the ground beside houses and below everything that stands on it."""
    percent = 60 if light.sun else 78
    for side in street.sides:
        if side.kind == "houses" and side.sign == light.sun:
            inner, outer = side.sign * (side.road - 2.5), side.sign * side.plane
            _ground_quad(canvas, camera, (inner, outer), (1.0, side.blocks[-1].z1), percent + 12)
    limits = -street.sides[0].plane, street.sides[1].plane
    for actor in actors:
        if actor.kind in ("lamp", "rider"):
            continue
        (x0, x1), (z0, z1) = _shade_of(actor)
        reach = 0.0 if not light.sun else {"tree": 3.5, "bus": 2.2, "sign": 0.2}.get(actor.kind, 0.9)
        x0, x1 = (x0 - reach, x1) if light.sun > 0 else (x0, x1 + reach * abs(light.sun))
        inside = max(x0, limits[0]), min(x1, limits[1])
        _ground_quad(canvas, camera, inside, (z0, z1), percent)


def _shade_of(actor: Actor) -> tuple[tuple[float, float], tuple[float, float]]:
    """x and z range of the ground right below an actor."""
    x, _, z = actor.place
    if actor.kind in LENGTH and actor.heading[0] == 0:
        half = 1.0 if actor.kind == "car" else 1.35
        return (x - half, x + half), (z - 0.25, z + LENGTH[actor.kind])
    half = {"car": 2.2, "tree": 1.6, "bicycle": 0.8}.get(actor.kind, 0.28)
    deep = {"car": 1.9, "tree": 1.6}.get(actor.kind, 0.3)
    return (x - half, x + half), (z - 0.12, z + deep)


def _ground_quad(
    canvas: Canvas, camera: Camera, xs: tuple[float, float], zs: tuple[float, float], percent: int
) -> None:
    if xs[0] == xs[1]:
        return
    corners = [(xs[0], 0.0, zs[0]), (xs[1], 0.0, zs[0]), (xs[1], 0.0, zs[1]), (xs[0], 0.0, zs[1])]
    canvas.shadow([camera.project(point) for point in corners], percent)


def _paint_actor(canvas: Canvas, camera: Camera, light: Light, actor: Actor, dice: Dice) -> None:
    layer = _FIRST_THING + actor.instance if actor.instance >= CROWD else VOID
    brush = Brush(canvas, camera, light, layer)
    place = actor.place
    if actor.kind in LENGTH:
        x, y, z = place
        if actor.heading == TOWARDS:
            place = (x, y, z + LENGTH[actor.kind])
        elif actor.heading[0]:
            place = (x - actor.heading[0] * LENGTH[actor.kind] / 2, y, z + 0.9)
        paint = objects.paint_car if actor.kind == "car" else objects.paint_bus
        paint(brush, dice, place, actor.heading)
    elif actor.kind == "bicycle":
        objects.paint_bicycle(brush, dice, place)
    elif actor.kind == "sign":
        objects.paint_sign(brush, Brush(canvas, camera, light, VOID), dice, place)
    elif actor.kind == "tree":
        objects.paint_tree(Brush(canvas, camera, light, VEGETATION), dice, place)
    elif actor.kind == "lamp":
        objects.paint_lamp(brush, place, int(actor.heading[0]))
    elif actor.kind == "bin":
        objects.paint_bin(brush, dice, place)
    else:
        objects.paint_person(brush, dice, place, riding=actor.kind == "rider")


def _paint_hood(canvas: Canvas, light: Light, dice: Dice) -> None:
    """The hood of the car that carries the camera: void, as in driving data sets."""
    height, width = canvas.layers.shape
    tall = height * dice.uniform(0.06, 0.12)
    color = dice.jitter((58, 60, 68), 14)
    center = (width * 0.5, float(height))
    canvas.ellipse(center, (max(width * 0.42, height * 0.5), tall), light.on(color, 0.0), VOID)
    shine: Color = (color[0] + 34, color[1] + 34, color[2] + 38)
    canvas.ellipse((width * 0.5, height * 1.0), (width * 0.3, tall * 0.6), light.on(shine, 0.0), VOID)


def _develop(canvas: Canvas, scale: int, dice: Dice) -> np.ndarray:
    """(H, W, 3) uint8 photograph of the canvas: smooth edges, leaves, and the grain of the film."""
    parts = [canvas.image[i::scale, j::scale] for i in range(scale) for j in range(scale)]
    photo = parts[0].astype(np.int16)
    for part in parts[1:]:
        photo += part
    photo //= len(parts)
    height, width = photo.shape[:2]
    leaves = np.zeros((height, width), np.float32)
    for step, strength in ((max(height // 18, 2), 0.14), (max(height // 50, 1), 0.2)):
        leaves += smooth_noise(dice, (height, width), step) * np.float32(strength)
    leaves[canvas.layers[::scale, ::scale] != VEGETATION] = 0
    photo += leaves.astype(np.int16)[..., None]
    photo += dice.noise(height, width, 1) // 32
    photo += dice.noise(height, width, 3) // 48
    return np.clip(photo, 0, 255).astype(np.uint8)


def _truth(image: np.ndarray, layers: np.ndarray, categories: dict[int, int]) -> Scene:
    """Numbers the visible layers 1..n and measures them."""
    panoptic_map = np.full(layers.shape, VOID, np.int32)
    smallest = max(8, layers.size // _SMALLEST_PART)
    segments: list[Segment] = []
    for layer in np.unique(layers).tolist():
        mask = layers == layer
        area = int(mask.sum())
        if layer == VOID or area < smallest:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        panoptic_map[mask] = len(segments) + 1
        crowd = layer == _FIRST_THING + CROWD
        segments.append(Segment(len(segments) + 1, categories.get(layer, layer), crowd, box, area))
    return Scene(image, panoptic_map, tuple(segments))
