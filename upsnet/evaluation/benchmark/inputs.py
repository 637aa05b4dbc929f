"""What the benchmark feeds a network and its post-processing: made images, and made network outputs.

A network without training detects nothing, and post-processing nothing is no work. So post-processing gets a
fixed number of instances that it has to keep, on a semantic map of many segments.
Shapes: H x W the input size; I instances; semantic logits (S + T, H/4, W/4) of the padded input.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.data.categories import CategoryTable
from upsnet.model.network import NetworkOutput
from upsnet.model.panoptic_head import resize_mask_logits
from upsnet.structures import Category, Detections, ImageBatch, Size, pad_images

STRIDE = 4
BLOB = 8
"""Side of a semantic blob in pixels of the semantic logits: a segment is some 30 pixels wide, or more."""

STUFF_LEAD, INSTANCE_LEAD = 3.0, 12.0
"""How far stuff is above things on average, and the class of an instance inside it above all others."""

MASK_PIXELS = 28


def random_images(size: Size, seed: int) -> ImageBatch:
    """One image of random pixels."""
    generator = torch.Generator().manual_seed(seed)
    return pad_images([torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)])


def made_table(num_stuff: int, num_things: int) -> CategoryTable:
    """Categories without meaning."""
    return CategoryTable(
        tuple(
            Category(i + 1, f"class {i + 1}", i >= num_stuff, (i % 256, i // 256, 128))
            for i in range(num_stuff + num_things)
        )
    )


def made_output(size: Size, num_stuff: int, num_things: int, instances: int, seed: int) -> NetworkOutput:
    """The output of a network that is sure of `instances` instances, which fill a grid over the image.

    None of them is pruned: scores are above 0.9, boxes overlap a little, masks hardly. The semantic logits
    agree with them; elsewhere they are smooth noise with stuff above things.

    Args:
        size: of the input without padding.
        num_stuff: S.
        num_things: T, at least 1 if there are instances.
        instances: I.
        seed: same seed, same output.
    """
    generator = torch.Generator().manual_seed(seed)
    boxes = _grid_boxes(size, instances, generator)
    labels = torch.arange(instances) % max(num_things, 1) + 1
    detections = Detections(
        boxes, torch.linspace(0.99, 0.91, instances), labels, _ellipse().expand(instances, -1, -1)
    )
    logits = _smooth_noise(num_stuff + num_things, size, generator)
    logits[:num_stuff] += STUFF_LEAD
    low_size = (logits.shape[1], logits.shape[2])
    for box, label, mask_logits in zip(boxes, labels.tolist(), detections.mask_logits, strict=True):
        inside, (y0, x0, y1, x1) = resize_mask_logits(mask_logits, box / STRIDE, low_size)
        logits[num_stuff + label - 1, y0:y1, x0:x1] += INSTANCE_LEAD * (inside > 0)
    return NetworkOutput(detections, logits, size, STRIDE)


def to_device(output: NetworkOutput, device: torch.device) -> NetworkOutput:
    """The same output on another device."""
    made = output.detections
    moved = (t.to(device) for t in (made.boxes, made.scores, made.labels, made.mask_logits))
    return NetworkOutput(Detections(*moved), output.semantic_logits.to(device), output.size, output.stride)


def _grid_boxes(size: Size, instances: int, generator: torch.Generator) -> Tensor:
    """(I, 4) boxes in the cells of a grid, half as long to a little longer than a cell, clipped."""
    if instances == 0:
        return torch.zeros(0, 4)
    height, width = size
    columns = math.ceil(math.sqrt(instances * width / height))
    rows = math.ceil(instances / columns)
    index = torch.arange(instances)
    cell = torch.tensor([width / columns, height / rows])
    centres = (torch.stack([index % columns, index // columns], dim=1) + 0.5) * cell
    sides = (0.5 + 0.6 * torch.rand(instances, 2, generator=generator)) * cell
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    return boxes.clamp(min=torch.zeros(4), max=torch.tensor([width, height, width, height]))


def _ellipse() -> Tensor:
    """(28, 28) mask logits: positive inside the ellipse that fits the box, ever less outside."""
    along = torch.linspace(-1, 1, MASK_PIXELS)
    return 6 * (0.9 - along[:, None] ** 2 - along**2)


def _smooth_noise(channels: int, size: Size, generator: torch.Generator) -> Tensor:
    """(C, H/4, W/4) of the padded size, with blobs of some 8 pixels."""
    height, width = (-(-side // 32) * 32 // STRIDE for side in size)
    coarse = torch.randn(1, channels, -(-height // BLOB), -(-width // BLOB), generator=generator)
    fine = F.interpolate(2 * coarse, scale_factor=float(BLOB), mode="bilinear", align_corners=False)
    return fine[0, :, :height, :width].contiguous()
