"""Street scenes that the program paints itself, with exact panoptic truth: data for a laptop, tests and demos.

Shapes: H x W pixels. The same seed, split and index give the same bytes on every machine: the random numbers
are integers and plain float64 products of PCG64's stream, and the rasteriser is integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from upsnet.config import SyntheticConfig
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

SPLIT_NUMBER = {"train": 0, "val": 1}


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
    """Paints scene `index` of a split; each scene has its own random stream, so any order gives the same bytes."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([config.seed, SPLIT_NUMBER[split], index])))
    height, width = config.height, config.width
    image = np.empty((height, width, 3), np.uint8)
    layers = np.empty((height, width), np.int32)
    horizon = height * 45 // 100
    image[:horizon], layers[:horizon] = (120, 170, 230), 23
    image[horizon:], layers[horizon:] = (90, 160, 80), 22
    rows, columns = np.mgrid[:height, :width]
    road = np.abs(columns - width // 2) * height < (rows - horizon) * width
    image[road], layers[road] = (90, 90, 95), 7
    things: list[int] = []
    for number in range(min(config.max_instances, int(rng.integers(0, 8)))):
        bottom = int(rng.integers(horizon + height // 8, height))
        size = max((bottom - horizon) * 2 // 3, 4)
        left = int(rng.integers(-size // 2, width - size // 2))
        category = (24, 26, 28, 33, 20)[int(rng.integers(0, 5))]
        shape = (slice(max(bottom - size, 0), bottom), slice(max(left, 0), left + size))
        image[shape], layers[shape] = (category * 7, 250 - category * 4, category), 100 + number
        things.append(category)
    return _truth(image, layers, things)


def _truth(image: np.ndarray, layers: np.ndarray, things: list[int]) -> Scene:
    panoptic_map = np.full(layers.shape, VOID, np.int32)
    segments: list[Segment] = []
    for layer in np.unique(layers).tolist():
        mask = layers == layer
        area = int(mask.sum())
        if area < 8:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        category = layer if layer < 100 else things[layer - 100]
        panoptic_map[mask] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, category, False, box, area))
    return Scene(image, panoptic_map, tuple(segments))
