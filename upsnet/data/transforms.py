"""Resize and flip of an image together with its panoptic map, and the random draw of both in training.

Shapes: H x W pixels. Image and map share one geometry, in which pixel i covers i to i + 1: the centre of
output pixel i lies at (i + 0.5) * input / output; the image interpolates there, the map takes the pixel that
holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upsnet.config import LoaderConfig
from upsnet.data.images import decode_image
from upsnet.structures import Size

__all__ = ["Augmentation", "decode_image", "draw_augmentation", "flip", "resize", "resize_scale"]


@dataclass(frozen=True)
class Augmentation:
    """What happens to one image: the short side it gets in pixels, and whether it is mirrored."""

    short_side: int
    flip: bool


def draw_augmentation(config: LoaderConfig, seed: int, epoch: int, index: int) -> Augmentation:
    """Draws from (seed, epoch, image index) alone, so no matter which process handles the image.

    Source: paper supplement 6.1.
    """
    random = np.random.default_rng(
        (seed, epoch, index, 1)
    )  # the 1 sets it apart from the epoch's permutation
    smallest, largest = config.short_side
    short_side = int(random.integers(smallest, largest, endpoint=True))
    return Augmentation(short_side, flip=bool(random.random() < config.flip))


def resize_scale(size: Size, short_side: int, long_side: int) -> Size:
    """Size whose short side is `short_side`, or less where the long side would pass `long_side`.

    Source: Mask R-CNN 3.1 (as in UPSNet supplement 6.1). The aspect ratio is kept up to rounding.
    """
    scale = min(short_side / min(size), long_side / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def resize(image: Tensor, panoptic_map: np.ndarray, size: Size) -> tuple[Tensor, np.ndarray]:
    """Resizes an image and its map to `size`.

    Args:
        image: (3, H, W) uint8.
        panoptic_map: (H, W) segment ids.
        size: height and width to make.

    Returns:
        the image, bilinear with antialias, and the map, nearest; the inputs where they fit already.
    """
    return resize_image(image, size), resize_map(panoptic_map, size)


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Resizes a (3, H, W) uint8 image, bilinear with antialias."""
    if tuple(image.shape[1:]) == size:
        return image
    return torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def resize_map(panoptic_map: np.ndarray, size: Size) -> np.ndarray:
    """Resizes an (H, W) map of ids of any integer type to the nearest pixel."""
    if panoptic_map.shape == size:
        return panoptic_map
    rows, columns = (_nearest(old, new) for old, new in zip(panoptic_map.shape, size, strict=True))
    resized: np.ndarray = panoptic_map[rows][:, columns]
    return resized


def flip(image: Tensor, panoptic_map: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Mirrors a (3, H, W) image and its (H, W) map left to right."""
    return image.flip(2), np.ascontiguousarray(panoptic_map[:, ::-1])


def _nearest(old: int, new: int) -> np.ndarray:
    """Index of the input pixel under the centre of each output pixel, in whole numbers, hence exact."""
    index: np.ndarray = (2 * np.arange(new) + 1) * old // (2 * new)
    return index
