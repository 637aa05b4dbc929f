"""Panoptic maps as pictures: colours, overlays with class names, strips image | truth | prediction.

Shapes: H x W pixels, C classes. Images are (H, W, 3) uint8 RGB, maps (H, W) integer segment ids, and
`segments` are pairs (segment_id, class_id). Categories come in class_id order.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upsnet.errors import DataError
from upsnet.structures import VOID, Category

SegmentClass = tuple[int, int]
"""(segment_id, class_id)"""

# How far an instance's colour may move away from its class colour, 0..1: more tells neighbours apart better,
# less keeps the class recognisable.
SHADE_RANGE = 0.45


def class_colors(categories: Sequence[Category]) -> np.ndarray:
    """(C, 3) uint8 colour of every class, by class_id."""
    return np.array([category.color for category in categories], np.uint8).reshape(-1, 3)


def colorize(
    panoptic_map: np.ndarray, segments: Sequence[SegmentClass], categories: Sequence[Category]
) -> np.ndarray:
    """Paints every segment: stuff in its class colour, things in shades of theirs, void black.

    The first instance of a class (by segment_id) has the class colour itself, each further one a shade that
    depends on its rank only, so the same map always looks the same.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: the map holds an id that `segments` lacks, or a class_id is unknown.
    """
    ids, inverse = np.unique(panoptic_map, return_inverse=True)
    shades = {VOID: np.zeros(3, np.uint8)} | _shades(segments, categories)
    _require_all_known(ids, shades)
    palette = np.stack([shades[int(segment_id)] for segment_id in ids])
    painted: np.ndarray = palette[inverse.reshape(panoptic_map.shape)]
    return painted


def draw_overlay(
    image: np.ndarray,
    panoptic_map: np.ndarray,
    segments: Sequence[SegmentClass],
    categories: Sequence[Category],
    *,
    opacity: float = 0.5,
) -> np.ndarray:
    """The image under semi-transparent segments, with instance outlines and class names; void stays as it is.

    Lines and letters grow with the image. Segments too small for their name go without.

    Args:
        image: (H, W, 3) uint8, left unchanged.
        opacity: 0 shows the image alone, 1 the segments alone.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: image and map differ in size, or ids or classes are unknown.
    """
    _require_picture(image, "overlay: image")
    if image.shape[:2] != panoptic_map.shape:
        raise DataError(
            f"overlay: the image is {image.shape[:2]} and the map {panoptic_map.shape}; equal sizes expected"
        )
    colors = colorize(panoptic_map, segments, categories)
    covered = panoptic_map != VOID
    canvas = image.copy()
    mixed = image[covered] * (1 - opacity) + colors[covered] * opacity
    canvas[covered] = (mixed + 0.5).astype(np.uint8)
    _draw_outlines(canvas, panoptic_map, segments, categories)
    return _draw_names(canvas, panoptic_map, segments, categories)


def strip(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, each under a bar with its title.

    Args:
        panels: title -> (H, W, 3) uint8, at least one.

    Returns:
        (H + bar, n W + (n - 1) gaps, 3) uint8.

    Raises:
        DataError: the pictures differ in size.
    """
    first, *_ = panels
    size = panels[first].shape[:2]
    for title, panel in panels.items():
        _require_picture(panel, f"strip: {title}")
        if panel.shape[:2] != size:
            raise DataError(f"strip: {title} is {panel.shape[:2]}, expected {size} as {first}")
    titled = [_under_title(panel, title) for title, panel in panels.items()]
    gap = np.full((len(titled[0]), max(2, size[0] // 64), 3), 255, np.uint8)
    return np.concatenate([part for panel in titled for part in (gap, panel)][1:], axis=1)


def save_png(array: np.ndarray, path: Path) -> None:
    """Writes an (H, W, 3) uint8 picture; the file appears whole or not at all.

    Raises:
        DataError: the array is not a picture.
    """
    _require_picture(array, f"{path}: picture to save")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            Image.fromarray(array).save(file, format="PNG")
        beside.chmod(0o644)  # mkstemp makes private files
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _shades(segments: Sequence[SegmentClass], categories: Sequence[Category]) -> dict[int, np.ndarray]:
    """Colour of every segment id."""
    seen = [0] * len(categories)
    shades = {}
    for segment_id, class_id in sorted(segments):
        if not 0 <= class_id < len(categories):
            raise DataError(
                f"segment {segment_id} has class_id {class_id}, expected 0..{len(categories) - 1}"
            )
        rank = seen[class_id] if categories[class_id].isthing else 0
        seen[class_id] += 1
        shades[segment_id] = _shade(categories[class_id].color, rank)
    return shades


def _shade(color: tuple[int, int, int], rank: int) -> np.ndarray:
    """Colour of the instance of this rank in its class: the class colour mixed with an evenly spread one."""
    if rank == 0:
        return np.array(color, np.uint8)
    # Powers of the plastic-like number of three dimensions: successive ranks land far apart in the RGB cube.
    spread = (0.8191725134, 0.6710436067, 0.5497004779)
    mixed = [
        c * (1 - SHADE_RANGE) + 255 * SHADE_RANGE * (rank * s % 1) for c, s in zip(color, spread, strict=True)
    ]
    return np.array(mixed, np.uint8)


def _draw_outlines(
    canvas: np.ndarray,
    panoptic_map: np.ndarray,
    segments: Sequence[SegmentClass],
    categories: Sequence[Category],
) -> None:
    """Whitens the pixels of things that are next to another segment."""
    things = [segment_id for segment_id, class_id in segments if categories[class_id].isthing]
    edge = np.zeros(panoptic_map.shape, bool)
    for distance in range(1, max(1, panoptic_map.shape[0] // 400) + 1):
        for axis in (0, 1):
            near, far = _shifted(panoptic_map, distance, axis)
            differs = near != far
            edge_near, edge_far = _shifted(edge, distance, axis)
            edge_near |= differs
            edge_far |= differs
    canvas[edge & np.isin(panoptic_map, things)] = 255


def _shifted(array: np.ndarray, distance: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Two views of the array, `distance` pixels apart along the axis."""
    return (array[:-distance], array[distance:]) if axis == 0 else (array[:, :-distance], array[:, distance:])


@dataclass(frozen=True)
class _Place:
    """Where a segment's name may stand: centre of the widest run in its middle row."""

    x: int
    y: int
    width: int
    area: int
    class_id: int


def _draw_names(
    canvas: np.ndarray,
    panoptic_map: np.ndarray,
    segments: Sequence[SegmentClass],
    categories: Sequence[Category],
) -> np.ndarray:
    """Writes class names at the segments, largest first; names that would hide another one are left out."""
    height, width = panoptic_map.shape
    font = _font(min(max(height // 20, 9), 48))
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    taken: list[tuple[int, int, int, int]] = []
    for place in sorted(_places(panoptic_map, dict(segments)), key=lambda p: -p.area):
        name = categories[place.class_id].name
        left, top, right, bottom = (int(v) for v in draw.textbbox((0, 0), name, font=font))
        w, h = right - left, bottom - top
        x = min(max(place.x - w // 2, 1), max(width - w - 1, 0))
        y = min(max(place.y - h // 2, 1), max(height - h - 1, 0))
        box = (x - 1, y - 1, x + w + 1, y + h + 1)
        if place.area < w * h or place.width * 2 < w or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        draw.text(
            (x - left, y - top),
            name,
            (255, 255, 255),
            font,
            stroke_width=max(1, h // 12),
            stroke_fill=(0, 0, 0),
        )
    return np.array(picture)


def _places(panoptic_map: np.ndarray, class_of: dict[int, int]) -> Iterator[_Place]:
    flat = panoptic_map.ravel()
    order = np.argsort(flat, kind="stable")
    ids, starts = np.unique(flat[order], return_index=True)
    for segment_id, pixels in zip(ids.tolist(), np.split(order, starts[1:]), strict=True):
        if segment_id == VOID:
            continue
        # Pixels are in reading order, so the one in the middle lies in the middle row of the area.
        row = int(pixels[len(pixels) // 2]) // panoptic_map.shape[1]
        first, length = _longest_run(panoptic_map[row] == segment_id)
        yield _Place(first + length // 2, row, length, len(pixels), class_of[segment_id])


def _longest_run(row: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _under_title(panel: np.ndarray, title: str) -> np.ndarray:
    """The panel below a dark bar with its title."""
    bar_height = max(14, panel.shape[0] // 12)
    bar = Image.new("RGB", (panel.shape[1], bar_height), (32, 32, 32))
    font = _font(bar_height * 2 // 3)
    ImageDraw.Draw(bar).text((4, bar_height // 2), title, (255, 255, 255), font, anchor="lm")
    return np.concatenate([np.array(bar), panel])


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _require_picture(array: np.ndarray, where: str) -> None:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise DataError(f"{where} is {array.shape} {array.dtype}, expected (height, width, 3) uint8")


def _require_all_known(ids: np.ndarray, known: dict[int, np.ndarray]) -> None:
    unknown = [int(segment_id) for segment_id in ids if int(segment_id) not in known]
    if unknown:
        raise DataError(
            f"the panoptic map holds {len(unknown)} ids without a segment (first: {unknown[:5]}); "
            "every id but 0 (void) needs one"
        )
