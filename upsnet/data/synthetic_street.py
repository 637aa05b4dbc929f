"""The street itself: sky, ground, facades, walls and hedges, painted by following every pixel's ray.

Shapes: H x W pixels of the canvas, R rows below the horizon, C columns of one side of the street. The ground
is the plane y = 0 and each side of the street has upright planes x = const, so depth depends on the row alone
on the ground, and on the column alone on a side: everything is cheap broadcasting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from upsnet.data.synthetic_canvas import NEAR, Camera, Canvas, Color, Dice, Light, floats

ROAD, SIDEWALK, BUILDING, WALL, VEGETATION, TERRAIN, SKY = 7, 8, 11, 12, 21, 22, 23
"""Layer numbers of stuff: the category_ids."""

SideKind = Literal["houses", "park", "garden"]

ASPHALT: Color = (88, 88, 94)
PAVING: Color = (182, 164, 158)
KERB: Color = (214, 206, 200)
GRASS: Color = (132, 178, 78)
PAINT: Color = (232, 232, 226)
HEDGE: Color = (44, 98, 44)
STONE: Color = (212, 196, 148)
FACADES: tuple[Color, ...] = (
    (172, 92, 72),
    (150, 74, 60),
    (196, 138, 104),
    (186, 110, 92),
    (160, 118, 112),
    (128, 84, 78),
    (204, 122, 84),
)
GLASS: Color = (70, 88, 110)
LAMPLIGHT: Color = (255, 222, 140)
SHOPS: tuple[Color, ...] = ((60, 74, 70), (96, 56, 50), (70, 66, 92))


@dataclass(frozen=True)
class Block:
    """One building along the street: from z0 to z1, in metres."""

    z0: float
    z1: float
    height: float
    color: Color
    shop: Color
    bay: float
    storey: float


@dataclass(frozen=True)
class Side:
    """One side of the street. Distances are metres from x = 0, positive on both sides.

    Attributes:
        sign: -1 left, 1 right.
        road: the kerb.
        paving: outer edge of the sidewalk.
        plane: where facades, garden wall or hedge stand; between `paving` and it is grass.
        top: height of wall (garden) or hedge (park).
    """

    sign: int
    kind: SideKind
    road: float
    paving: float
    plane: float
    top: float
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Street:
    """The plan of a scene, before anything moves on it.

    Attributes:
        lane: width of a lane; the camera drives in the middle of its own, the other direction is on the left.
        end: where the street ends, in metres.
        crossing: distance of a zebra crossing, 0 for none.
        far_kind: what closes the street.
    """

    sides: tuple[Side, Side]
    lane: float
    own_lanes: int
    end: float
    crossing: float
    far_kind: SideKind


def plan_street(dice: Dice) -> Street:
    """Rolls the dice for one street."""
    lane = dice.uniform(2.7, 3.3)
    own_lanes = 2 if dice.chance(0.25) else 1
    end = dice.uniform(45, 130)
    left = _plan_side(dice, -1, lane * 1.5, end)
    right = _plan_side(dice, 1, lane * (own_lanes - 0.5), end)
    crossing = dice.uniform(6, 16) if dice.chance(0.35) else 0.0
    far_kind: SideKind = dice.pick(("houses", "houses", "park"))
    return Street((left, right), lane, own_lanes, end, crossing, far_kind)


def _plan_side(dice: Dice, sign: int, kerb: float, end: float) -> Side:
    kinds: tuple[SideKind, ...] = ("houses", "houses", "houses", "park", "garden")
    kind = dice.pick(kinds)
    road = kerb + (dice.uniform(1.9, 2.4) if dice.chance(0.6) else 0.3)
    paving = road + dice.uniform(1.9, 3.8)
    grass = 0.0 if kind == "houses" and dice.chance(0.65) else dice.uniform(1.5, 4.0)
    if kind == "park":
        grass = dice.uniform(7, 18)
    top = dice.uniform(1.7, 2.4) if kind == "garden" else dice.uniform(4, 9)
    blocks = _plan_blocks(dice, end) if kind == "houses" else ()
    return Side(sign, kind, road, paving, paving + grass, top, blocks)


def _plan_blocks(dice: Dice, end: float) -> tuple[Block, ...]:
    blocks: list[Block] = []
    z = dice.uniform(-8, 0)
    while z < end:
        length = dice.uniform(9, 24)
        height = dice.uniform(6, 22)
        color = dice.jitter(dice.pick(FACADES), 12)
        blocks.append(
            Block(
                z, z + length, height, color, dice.pick(SHOPS), dice.uniform(2.2, 3.4), dice.uniform(2.8, 3.5)
            )
        )
        z += length + (dice.uniform(5, 10) if dice.chance(0.22) else 0.0)
    return tuple(blocks)


def paint_street(canvas: Canvas, camera: Camera, light: Light, street: Street, dice: Dice) -> None:
    """Paints everything that does not stand on the street, from far to near."""
    _paint_sky(canvas, camera, light, dice)
    _paint_ground(canvas, camera, light, street, dice)
    _paint_end(canvas, camera, light, street, dice)
    for side in street.sides:
        if side.kind == "houses":
            _paint_houses(canvas, camera, light, side, dice)
        else:
            _paint_hedge(canvas, camera, light, side, street.end, dice)
        if side.kind == "garden":
            _paint_wall(canvas, camera, light, side, street.end)


def _paint_sky(canvas: Canvas, camera: Camera, light: Light, dice: Dice) -> None:
    """Sky and clouds down to the horizon; soft shapes, so painted at half the size."""
    canvas.layers[...] = SKY
    height, width = canvas.layers.shape
    shape = int(camera.horizon) // 2 + 1, width // 2 + 1
    share = np.arange(shape[0], dtype=np.float32)[:, None, None] / np.float32(shape[0])
    sky = floats(light.sky_top) * (1 - share) + floats(light.sky_low) * share
    clouds = smooth_noise(dice, shape, max(height // 12, 2))
    clouds += smooth_noise(dice, shape, max(height // 28, 2)) * np.float32(0.5)
    cover = np.clip((clouds - np.float32(dice.integer(0, 70))) / np.float32(110), 0, np.float32(0.8))[
        ..., None
    ]
    painted = (sky * (1 - cover) + floats([min(c + 45, 250) for c in light.sky_low]) * cover).astype(np.uint8)
    large = painted.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    canvas.image[: len(large)] = large


def _paint_ground(canvas: Canvas, camera: Camera, light: Light, street: Street, dice: Dice) -> None:
    height, width = canvas.layers.shape
    first = int(camera.horizon) + 1
    rows = np.arange(first, height, dtype=np.float32) + np.float32(0.5 - camera.horizon)
    depth = (np.float32(camera.focal * camera.eye) / rows)[:, None]
    columns = np.arange(width, dtype=np.float32) + np.float32(0.5 - camera.center)
    across = columns * (depth / np.float32(camera.focal))
    zones = _zones(across, depth, street)
    colors = floats([(0, 0, 0), ASPHALT, PAVING, GRASS, KERB])[zones]
    _paint_markings(colors, zones, across, depth, street)
    rough = floats([0, 6, 5, 14, 0])[zones] * np.float32(0.01 / 128)
    fade = light.fades(depth)[..., None]
    bright = floats(light.ambient) * (1 - fade)
    colors *= (1 + _grain(across, depth, dice) * rough)[..., None] * bright
    colors += floats(light.haze) * fade
    canvas.image[first:] = np.minimum(colors, 255, out=colors)
    canvas.layers[first:] = np.array([0, ROAD, SIDEWALK, TERRAIN, SIDEWALK], np.int16)[zones]


def _zones(across: np.ndarray, depth: np.ndarray, street: Street) -> np.ndarray:
    """(R, W) zone of every ground pixel: 1 road, 2 sidewalk, 3 grass, 4 kerb."""
    zones = np.full(across.shape, 1, np.int8)
    for side in street.sides:
        x = across * np.float32(side.sign)
        outer = np.float32(side.paving)
        zones[x > np.float32(side.road)] = 4
        zones[x > np.float32(side.road + 0.18)] = 2
        zones[x > outer] = 3
        for gap in _gaps(side):
            # Rows between two depths, columns of this side: the side street crosses its sidewalk.
            inside = np.flatnonzero((depth > np.float32(gap[0])) & (depth < np.float32(gap[1])))
            zones[inside] = np.where(x[inside] > 0, np.int8(1), zones[inside])
    return zones


def _gaps(side: Side) -> list[tuple[float, float]]:
    """Side streets: z from and to."""
    pairs = zip(side.blocks, side.blocks[1:], strict=False)
    return [(a.z1 + 0.8, b.z0 - 0.8) for a, b in pairs if b.z0 > a.z1 + 3]


def _paint_markings(
    colors: np.ndarray, zones: np.ndarray, across: np.ndarray, depth: np.ndarray, street: Street
) -> None:
    """Lane lines, a zebra crossing and the joints of the paving."""
    road = zones == 1
    dashed = depth - np.floor(depth / 5) * 5 < 2.6
    line = np.abs(across + np.float32(street.lane / 2)) < 0.09
    for lane in range(1, street.own_lanes):
        line |= np.abs(across - np.float32(street.lane * (lane - 0.5))) < 0.09
    marked = line & dashed
    for edge in (-1.5 * street.lane, (street.own_lanes - 0.5) * street.lane):
        marked |= np.abs(across - np.float32(edge)) < 0.07
    if street.crossing:
        bars = across - np.floor(across) < 0.5
        on_crossing = np.abs(depth - np.float32(street.crossing)) < 1.5
        marked = (marked & (np.abs(depth - np.float32(street.crossing)) > 2)) | (bars & on_crossing)
    colors[marked & road & (depth < 70)] = PAINT
    joints = (across - np.floor(across) < 0.06) | (depth - np.floor(depth) < 0.06)
    colors[joints & (zones == 2) & (depth < 22)] -= 30


def _grain(across: np.ndarray, depth: np.ndarray, dice: Dice) -> np.ndarray:
    """(R, W) int16 -255..255: speckles fixed to the ground, fine and coarse."""
    table = dice.noise(4096)
    total = np.zeros(across.shape, np.int16)
    # Far away the cells are smaller than pixels; the limits only keep the integers small.
    across, depth = np.clip(across, -500, 500), np.minimum(depth, 500)
    for cells in (12, 2):
        x = np.floor(across * np.float32(cells)).astype(np.int32)
        z = np.floor(depth * np.float32(cells // 2)).astype(np.int32)
        total += table[(x * 73 + z * 1031) & 4095]
    return total


def _paint_end(canvas: Canvas, camera: Camera, light: Light, street: Street, dice: Dice) -> None:
    """What closes the street at its far end: a row of houses or of trees across it."""
    height, width = canvas.layers.shape
    scale = camera.focal / street.end
    base = min(int(camera.horizon + camera.eye * scale), height)
    if street.far_kind == "houses":
        x = -width
        while x < width * 2:
            step = max(int(dice.uniform(8, 18) * scale), 2)
            top = int(camera.horizon - dice.uniform(4, 16) * scale)
            left, right = max(x, 0), min(max(x + step, 0), width)
            color = light.on(dice.jitter(dice.pick(FACADES), 10), street.end, 0)
            canvas.image[max(top, 0) : base, left:right] = color
            canvas.layers[max(top, 0) : base, left:right] = BUILDING
            x += step
        return
    tops = camera.horizon - (6 + _ridge(dice, width, max(int(6 * scale), 2)) * np.float32(0.03)) * np.float32(
        scale
    )
    inside = (np.arange(base) >= tops[:, None].astype(np.int32)).T
    canvas.image[:base][inside] = light.on(HEDGE, street.end, 0)
    canvas.layers[:base][inside] = VEGETATION


@dataclass(frozen=True)
class _Plane:
    """Columns of one side of the street: slice, depth, x scale (rows per metre) and base row, each (C,)."""

    columns: slice
    depth: np.ndarray
    scale: np.ndarray
    base: np.ndarray


def _plane(camera: Camera, width: int, sign: int, distance: float, end: float) -> _Plane | None:
    """The upright plane x = sign * distance, up to the end of the street; None outside the picture."""
    away = (np.arange(width, dtype=np.float32) + np.float32(0.5) - np.float32(camera.center)) * sign
    nearest = camera.focal * distance / end
    seen = np.flatnonzero(away > np.float32(nearest))
    if not len(seen):
        return None
    columns = slice(int(seen[0]), int(seen[-1]) + 1)
    scale = away[columns] / np.float32(distance)
    depth = np.maximum(np.float32(camera.focal) / scale, np.float32(NEAR / 4))
    return _Plane(columns, depth, scale, np.float32(camera.horizon) + np.float32(camera.eye) * scale)


def _heights(camera: Camera, rows: int, scale: np.ndarray) -> np.ndarray:
    """(rows, C) metres above the ground of every pixel of upright columns."""
    below = np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5 - camera.horizon)
    heights: np.ndarray = np.float32(camera.eye) - below / scale
    return heights


def _paint_houses(canvas: Canvas, camera: Camera, light: Light, side: Side, dice: Dice) -> None:
    end = side.blocks[-1].z1
    plane = _plane(camera, canvas.layers.shape[1], side.sign, side.plane, end)
    if plane is None:
        return
    fronts = np.array([block.z0 for block in side.blocks], np.float32)
    ends = np.array([block.z1 for block in side.blocks], np.float32)
    block = np.maximum(np.searchsorted(fronts, plane.depth, side="right") - 1, 0)
    # In a side street one sees the flank of the next house, which faces us.
    open_air = plane.depth > ends[block]
    block = np.minimum(block + open_air, len(fronts) - 1)
    depth = np.where(open_air, fronts[block], plane.depth)
    scale = np.float32(camera.focal) / depth
    along = np.where(open_air, depth * (side.plane / plane.depth), depth - fronts[block])
    for number, house in enumerate(side.blocks):
        mine = np.flatnonzero(block == number)
        if not len(mine):
            continue
        columns = slice(plane.columns.start + int(mine[0]), plane.columns.start + int(mine[-1]) + 1)
        part = slice(int(mine[0]), int(mine[-1]) + 1)
        faces = np.where(open_air[part], 0, -side.sign)
        _paint_house(
            canvas, camera, light, house, columns, (depth[part], scale[part], along[part], faces), dice
        )


def _paint_house(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    house: Block,
    columns: slice,
    geometry: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    dice: Dice,
) -> None:
    """One facade; `geometry` is depth, rows per metre, metres along the facade and facing, each (C,)."""
    depth, scale, along, faces = geometry
    lowest = min(int(camera.horizon + camera.eye * float(scale.max())) + 1, canvas.layers.shape[0])
    heights = _heights(camera, lowest, scale)
    inside = (heights >= 0) & (heights < np.float32(house.height))
    parts = _facade_parts(house, heights, along, light.dark, dice)
    picture = _facade_palette(light, house, depth, faces)[parts, np.arange(len(depth))]
    canvas.image[:lowest, columns][inside] = picture[inside]
    canvas.layers[:lowest, columns][inside] = BUILDING


def _facade_parts(house: Block, heights: np.ndarray, along: np.ndarray, dark: bool, dice: Dice) -> np.ndarray:
    """(rows, C) 0 plaster, 1 glass, 2 lit window, 3 shop front, 4 ledge."""
    storey = np.floor(heights / np.float32(house.storey))
    up = heights / np.float32(house.storey) - storey
    bay = np.floor(along / np.float32(house.bay))
    sideways = np.abs(along / np.float32(house.bay) - bay - np.float32(0.5))
    window = (sideways < 0.27) & (np.abs(up - 0.55) < 0.28) & (heights < np.float32(house.height - 0.9))
    parts = window.astype(np.int8)
    if dark:
        lamps = dice.noise(256)[(storey.astype(np.int32) * 37 + bay.astype(np.int32) * 11) & 255] > 40
        parts[window & lamps] = 2
    ground = heights < np.float32(house.storey)
    parts[ground] = 3
    parts[ground & (sideways < 0.4) & (np.abs(up - 0.4) < 0.38)] = 2 if dark else 1
    parts[heights > np.float32(house.height - 0.5)] = 4
    return parts


def _facade_palette(light: Light, house: Block, depth: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(5, C, 3) uint8: plaster, glass, lit window, shop front, ledge, as seen at each column."""
    ledge = tuple(min(c + 40, 255) for c in house.color)
    base = floats([house.color, GLASS, LAMPLIGHT, house.shop, ledge])[:, None]
    bright = (np.float32(0.9) + np.float32(0.16 * light.sun) * faces.astype(np.float32))[:, None]
    lit = base * (bright * floats(light.ambient))
    lit[2] = base[2]  # lamps shine by themselves
    fade = light.fades(depth)[:, None]
    palette: np.ndarray = np.minimum(lit * (1 - fade) + floats(light.haze) * fade, 255).astype(np.uint8)
    return palette


def _paint_hedge(canvas: Canvas, camera: Camera, light: Light, side: Side, end: float, dice: Dice) -> None:
    """A row of bushes and trees with a bumpy top."""
    distance = side.plane + (1.5 if side.kind == "garden" else 0.0)
    plane = _plane(camera, canvas.layers.shape[1], side.sign, distance, end)
    if plane is None:
        return
    bumps = _ridge(dice, 4096, 6) * np.float32(0.012) + np.float32(max(side.top, 3.5))
    tops = bumps[(plane.depth * 6).astype(np.int32) & 4095]
    _paint_upright(canvas, camera, light, plane, tops, (HEDGE, VEGETATION, -side.sign))


def _paint_wall(canvas: Canvas, camera: Camera, light: Light, side: Side, end: float) -> None:
    """A garden wall of light stones with a coping."""
    plane = _plane(camera, canvas.layers.shape[1], side.sign, side.plane, end)
    if plane is None:
        return
    heights = _paint_upright(canvas, camera, light, plane, floats(side.top), (STONE, WALL, -side.sign))
    course = np.floor(heights / np.float32(0.45))
    along = plane.depth / np.float32(0.9) + np.where(course % 2 == 0, np.float32(0.5), np.float32(0))
    joints = (heights / np.float32(0.45) - course < 0.12) | (along - np.floor(along) < 0.06)
    joints &= (plane.depth < 25) & (heights > 0) & (heights < np.float32(side.top - 0.2))
    target = canvas.image[: len(heights), plane.columns]
    target[joints] = target[joints].astype(np.uint16) * 78 // 100


def _paint_upright(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    plane: _Plane,
    tops: np.ndarray,
    look: tuple[Color, int, int],
) -> np.ndarray:
    """Fills a plane from the ground up to `tops` and returns the (rows, C) heights in metres."""
    color, layer, facing = look
    lowest = min(int(plane.base.max()) + 1, canvas.layers.shape[0])
    heights = _heights(camera, lowest, plane.scale)
    inside = (heights >= 0) & (heights < tops)
    fade = light.fades(plane.depth)[:, None]
    lit = floats(light.on(color, 0.0, facing)) * (1 - fade) + floats(light.haze) * fade
    picture = np.broadcast_to(np.minimum(lit, 255).astype(np.uint8), (*heights.shape, 3))
    canvas.image[:lowest, plane.columns][inside] = picture[inside]
    canvas.layers[:lowest, plane.columns][inside] = layer
    return heights


def _ridge(dice: Dice, length: int, step: int) -> np.ndarray:
    """(length,) float32 -128..127: a smooth line with a new height every `step` places."""
    line: np.ndarray = smooth_noise(dice, (1, length), step)[0]
    return line


def smooth_noise(dice: Dice, shape: tuple[int, int], step: int) -> np.ndarray:
    """(H, W) float32 -128..127: random values every `step` pixels, linear in between."""
    height, width = shape
    coarse = dice.noise(height // step + 2, width // step + 2).astype(np.float32)
    across = _stretch(coarse.T, width, step)
    return _stretch(np.ascontiguousarray(across.T), height, step)


def _stretch(coarse: np.ndarray, length: int, step: int) -> np.ndarray:
    """Rows of `coarse` every `step` rows, linear in between, `length` rows."""
    place = np.arange(length)
    share = ((place % step).astype(np.float32) / np.float32(step))[:, None]
    low, high = coarse[place // step], coarse[place // step + 1]
    mixed: np.ndarray = low + (high - low) * share
    return mixed
