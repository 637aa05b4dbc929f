"""What the synthetic scenes are painted with: dice, camera, light and an integer rasteriser.

Shapes: H x W pixels of the canvas, P polygon corners, R rows. World coordinates are metres: x to the right of
the camera, y above the ground, z ahead of the camera.

Nothing here may depend on the machine. Random numbers are integers or 53-bit fractions of PCG64's stream,
real arithmetic is one IEEE operation at a time (no sin, exp or fused sums), and integers decide pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Color = tuple[int, int, int]
Point = tuple[float, float, float]
"""x, y, z in metres."""
Pixel = tuple[float, float]
"""Column and row on the canvas, not rounded."""

NEAR = 0.6
"""Metres; whatever is nearer is painted as if it were here."""

# Corners are rounded to sixteenths of a pixel, then all is integer.
_FRACTION = 16

_T = TypeVar("_T")


def floats(values: object) -> np.ndarray:
    """float32 array of numbers."""
    return np.array(values, np.float32)


class Dice:
    """Random choices that are the same on every machine."""

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

    def uniform(self, low: float, high: float) -> float:
        # Not Generator.uniform: a compiler may fuse its product and sum, which changes the last bit.
        return low + (high - low) * float(self._generator.random())

    def integer(self, low: int, high: int) -> int:
        """low <= value <= high."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return float(self._generator.random()) < probability

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self.integer(0, len(options) - 1)]

    def jitter(self, color: Color, amount: int) -> Color:
        """The colour with every channel moved by up to `amount`."""
        r, g, b = (min(max(c + self.integer(-amount, amount), 0), 255) for c in color)
        return r, g, b

    def noise(self, *shape: int) -> np.ndarray:
        """int16 values -128..127."""
        return self._generator.integers(-128, 128, shape, np.int16)


@dataclass(frozen=True)
class Camera:
    """A camera that looks straight down the street.

    Attributes:
        center: column of the vanishing point.
        horizon: row of the vanishing point.
        focal: focal length in pixels.
        eye: height above the ground in metres.
    """

    center: float
    horizon: float
    focal: float
    eye: float

    def project(self, point: Point) -> Pixel:
        x, y, z = point
        scale = self.focal / max(z, NEAR)
        return self.center + x * scale, self.horizon + (self.eye - y) * scale


@dataclass(frozen=True)
class Light:
    """Daylight of one scene.

    Attributes:
        ambient: brightness of red, green, blue, 1 as painted.
        sun: -1 from the left, 1 from the right, 0 overcast.
        haze: colour that distance fades to.
        haze_distance: metres at which half of the colour would be haze.
        sky_top, sky_low: colours of the sky at the top and at the horizon.
        dark: lamps and windows are lit.
    """

    ambient: tuple[float, float, float]
    sun: int
    haze: Color
    haze_distance: float
    sky_top: Color
    sky_low: Color
    dark: bool

    def on(self, color: Color, z: float, facing: int | None = None) -> Color:
        """The colour of a surface `z` metres away that faces left (-1), right (1), us (0) or up (None)."""
        bright = 1.0 if facing is None else 0.9 + 0.16 * self.sun * facing
        fade = self.fade(z)
        r, g, b = (
            min(int(c * bright * a * (1 - fade) + h * fade), 255)
            for c, a, h in zip(color, self.ambient, self.haze, strict=True)
        )
        return r, g, b

    def fade(self, z: float) -> float:
        """Share of haze, 0..0.5."""
        return min(0.5 * z / self.haze_distance, 0.5)

    def fades(self, depth: np.ndarray) -> np.ndarray:
        """The same for many float32 depths."""
        shares: np.ndarray = np.minimum(np.float32(0.5 / self.haze_distance) * depth, np.float32(0.5))
        return shares


class Canvas:
    """An image and its layer numbers, painted together from far to near.

    Attributes:
        image: (H, W, 3) uint8.
        layers: (H, W) int16, the number of the topmost layer of every pixel.
    """

    def __init__(self, height: int, width: int) -> None:
        self.image = np.zeros((height, width, 3), np.uint8)
        self.layers = np.zeros((height, width), np.int16)

    def polygon(self, corners: Sequence[Pixel], color: Color, layer: int) -> None:
        """Fills a convex polygon."""
        area, inside = _convex(corners, self.layers.shape)
        self.image[area][inside] = color
        self.layers[area][inside] = layer

    def ellipse(self, center: Pixel, radii: Pixel, color: Color, layer: int) -> None:
        """Fills an ellipse with upright axes."""
        area, inside = _ellipse(center, radii, self.layers.shape)
        self.image[area][inside] = color
        self.layers[area][inside] = layer

    def shadow(self, corners: Sequence[Pixel], percent: int) -> None:
        """Darkens a convex polygon to `percent` of its brightness; layers stay."""
        area, inside = _convex(corners, self.layers.shape)
        self.image[area][inside] = self.image[area][inside].astype(np.uint16) * percent // 100


_Area = tuple[slice, slice]


def _fixed(value: float) -> int:
    """Sixteenths of a pixel; limited so that products stay far below 2**63."""
    return int(min(max(value, -1e6), 1e6) * _FRACTION)


def _convex(corners: Sequence[Pixel], shape: tuple[int, ...]) -> tuple[_Area, np.ndarray]:
    """The bounding area of a convex polygon on the canvas, and the pixels in it whose centre is inside."""
    points = [(_fixed(x), _fixed(y)) for x, y in corners]
    all_x, all_y = [x for x, _ in points], [y for _, y in points]
    area = _clipped(min(all_x), max(all_x), min(all_y), max(all_y), shape)
    top, bottom = area[0].start, area[0].stop
    left, right = [1 << 40] * (bottom - top), [-(1 << 40)] * (bottom - top)
    half = _FRACTION // 2
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        # Rows whose centre lies between the edge's ends; polygons are small, so plain integers are fastest.
        first, last = (min(y0, y1) + half - 1) // _FRACTION, (max(y0, y1) + half - 1) // _FRACTION
        for row in range(max(first, top), min(last, bottom)):
            x = x0 + (row * _FRACTION + half - y0) * (x1 - x0) // (y1 - y0)
            left[row - top] = min(left[row - top], x)
            right[row - top] = max(right[row - top], x)
    columns = np.arange(area[1].start, area[1].stop) * _FRACTION + half
    return area, (np.array(left)[:, None] <= columns) & (columns < np.array(right)[:, None])


def _ellipse(center: Pixel, radii: Pixel, shape: tuple[int, ...]) -> tuple[_Area, np.ndarray]:
    """The same for an ellipse."""
    x, y, rx, ry = (_fixed(value) for value in (*center, *radii))
    rx, ry = max(rx, 1), max(ry, 1)
    area = _clipped(x - rx, x + rx, y - ry, y + ry, shape)
    rows = np.arange(area[0].start, area[0].stop)[:, None] * _FRACTION + _FRACTION // 2 - y
    columns = np.arange(area[1].start, area[1].stop) * _FRACTION + _FRACTION // 2 - x
    # Products of large radii would pass 2**63, so both sides are in thousandths of the radius.
    inside = (rows * 1024 // ry) ** 2 + (columns * 1024 // rx) ** 2 <= 1024 * 1024
    return area, inside


def _clipped(left: int, right: int, top: int, bottom: int, shape: tuple[int, ...]) -> _Area:
    """Pixel slices that cover a box in sixteenths, cut at the canvas; empty where they miss it."""
    height, width = shape[0], shape[1]
    first_row, first_column = max(top // _FRACTION, 0), max(left // _FRACTION, 0)
    rows = slice(first_row, max(min(bottom // _FRACTION + 1, height), first_row))
    return rows, slice(first_column, max(min(right // _FRACTION + 1, width), first_column))
