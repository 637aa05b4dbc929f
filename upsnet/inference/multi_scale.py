"""Multi-scale test of the semantic part: logits averaged over sizes of the image and their mirror images.

Shapes: an H x W image; C = S + T; logits (C, h, w) on the grid of the image at its own size, stride 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.config import InferenceConfig
from upsnet.data.transforms import resize_image, resize_scale
from upsnet.model.losses import STRIDE
from upsnet.model.network import Network
from upsnet.structures import ImageBatch, Size, pad_images

WINDOW_OVERLAP = 3
"""Neighbouring windows share a third of their side."""


def averaged_logits(
    network: Network, images: ImageBatch, settings: InferenceConfig, device: torch.device
) -> list[Tensor]:
    """The mean semantic logits of every image, on the grid that one run at its own size would give.

    Args:
        network: gives the logits of one image at one size.
        images: on the CPU, at the size of the single-scale test.
        settings: `scales`, `mirror` and `window`.
        device: of the network.

    Returns:
        per image (C, H/4, W/4) of the padded batch.

    Source: UPSNet 6.1.
    Differs: the sizes are made from the image at the size of the single-scale test, not from the original.
    """
    grid = (images.pixels.shape[-2] // STRIDE, images.pixels.shape[-1] // STRIDE)
    means = []
    for padded, size in zip(images.pixels, images.sizes, strict=True):
        image = padded[:, : size[0], : size[1]]
        total, count = torch.zeros((), device=device), 0
        for view, mirrored in _views(image, settings):
            logits = _window_logits(network, view, settings.window if network.window else 0, device)
            total = total + _on_grid(logits, size, (view.shape[-2], view.shape[-1]), grid, mirrored)
            count += 1
        means.append(total / count)
    return means


def _views(image: Tensor, settings: InferenceConfig) -> Iterator[tuple[Tensor, bool]]:
    """(3, h, w) uint8 images of all sizes, each also mirrored if asked, and whether it is mirrored."""
    size: Size = (int(image.shape[1]), int(image.shape[2]))
    for short_side in settings.scales:
        longest = settings.long_side * short_side // settings.short_side
        view = resize_image(image, resize_scale(size, short_side, longest))
        yield view, False
        if settings.mirror:
            yield view.flip(-1), True


def _window_logits(network: Network, image: Tensor, window: int, device: torch.device) -> Tensor:
    """(C, h, w) logits of one image: in one go, or the mean over sliding windows of `window` pixels."""
    height, width = (-(-int(side) // STRIDE) for side in image.shape[1:])
    side = window // STRIDE or max(height, width)
    total: Tensor | None = None
    count = torch.zeros(height, width, device=device)
    for y in _starts(height, side):
        for x in _starts(width, side):
            rows, columns = slice(y, min(y + side, height)), slice(x, min(x + side, width))
            crop = image[:, y * STRIDE : (y + side) * STRIDE, x * STRIDE : (x + side) * STRIDE]
            logits = network.semantic_logits(pad_images([crop]).to(device))[0]
            logits = logits[:, : rows.stop - y, : columns.stop - x]
            if total is None:
                total = torch.zeros(len(logits), height, width, device=device)
            total[:, rows, columns] += logits
            count[rows, columns] += 1
    assert total is not None
    return total / count


def _starts(length: int, side: int) -> list[int]:
    """Where windows of `side` cells begin so that they cover `length` cells; the last one ends with it."""
    last = max(length - side, 0)
    return [*range(0, last, max(side - side // WINDOW_OVERLAP, 1)), last]


def _on_grid(logits: Tensor, size: Size, view: Size, grid: Size, mirrored: bool) -> Tensor:
    """Samples the logits of a view at the centres of the grid's cells, bilinearly.

    Args:
        logits: (C, h, w), stride 4 of the view.
        size: of the image.
        view: size of the view.
        grid: rows and columns of cells, stride 4 of the padded image.
        mirrored: whether the view is the mirror image.
    """
    positions: list[Tensor] = []
    for cells, pixels, seen, length in zip(grid, size, view, logits.shape[1:], strict=True):
        place = (torch.arange(cells, device=logits.device) + 0.5) * STRIDE * seen / pixels
        if mirrored and len(positions) == 1:
            place = seen - place
        positions.append(2 * place / (length * STRIDE) - 1)  # -1 and 1 are the outer edges of the logits
    y, x = torch.meshgrid(*positions, indexing="ij")
    where = torch.stack([x, y], dim=-1)[None]
    sampled = F.grid_sample(logits[None], where, padding_mode="border", align_corners=False)
    return sampled[0]
