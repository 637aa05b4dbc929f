"""The words that all parts share.

Shapes: N images, H x W pixels, I instances, D detections, S stuff and T thing classes.
Four id spaces: `category_id` (the data set's, only in files), `class_id` (ours: stuff 0..S-1, then things
S..S+T-1), `label` (instance head: 0 background, 1..T; thing class_id = S + label - 1) and `segment_id` (one
segment of one panoptic map). Boxes are xyxy, absolute pixels, float32, right and bottom edge exclusive (a
one-pixel box at the origin is 0, 0, 1, 1); sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

VOID = 0
"""Segment id of pixels without a segment."""

IGNORE = 255
"""Class id of pixels without a semantic truth; so a data set has at most 254 classes."""

PANOPTIC_IGNORE = -1
"""The same for panoptic targets, whose channel numbers S + i pass 255 on crowded images."""

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Category:
    """One category of a data set, as its JSON has it."""

    category_id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]
    supercategory: str = ""


@dataclass(frozen=True)
class Segment:
    """One segment of one panoptic map, as `segments_info` of COCO panoptic has it.

    `bbox` is x, y, width, height and `area` the number of pixels, both recomputed from the PNG by `prepare`.
    """

    segment_id: int
    category_id: int
    iscrowd: bool
    bbox: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class ImageBatch:
    """Images of different sizes as one tensor.

    Attributes:
        pixels: (N, 3, H, W) uint8 RGB, zero padded at the bottom and the right to a multiple of 32.
        sizes: height and width of every image before the padding.
    """

    pixels: Tensor
    sizes: tuple[Size, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device) -> ImageBatch:
        return ImageBatch(self.pixels.to(device, non_blocking=True), self.sizes)


@dataclass(frozen=True)
class Targets:
    """The truth of one image at the network's input size (before padding), from its panoptic PNG alone.

    Attributes:
        image_id: the data set's id.
        boxes: (I, 4) tight boxes of the instances (things that are not crowd).
        labels: (I,) int64, 1..T.
        instance_map: (H, W) int32; pixel of instance i is i + 1, every other pixel 0.
        semantic_map: (H, W) uint8 class ids (crowd regions keep their class), IGNORE where void.
    """

    image_id: int
    boxes: Tensor
    labels: Tensor
    instance_map: Tensor
    semantic_map: Tensor

    def masks(self, indices: Tensor | None = None) -> Tensor:
        """(I, H, W) bool masks of all instances, or of those at `indices`."""
        if indices is None:
            indices = torch.arange(len(self.boxes), device=self.instance_map.device)
        return self.instance_map[None] == (indices + 1)[:, None, None]

    def to(self, device: torch.device) -> Targets:
        moved = (
            t.to(device, non_blocking=True)
            for t in (self.boxes, self.labels, self.instance_map, self.semantic_map)
        )
        return Targets(self.image_id, *moved)


@dataclass(frozen=True)
class GivenInstances:
    """The true instances of one image, for tests that replace parts of the network by truth (Table 6).

    Attributes:
        boxes: (I, 4) in input pixels.
        labels: (I,) int64, 1..T.
        give_boxes: detect at these boxes and at no others.
        give_labels: a detection takes the label of the true box that it overlaps most, if by an IoU of 0.5.
    """

    boxes: Tensor
    labels: Tensor
    give_boxes: bool
    give_labels: bool


@dataclass(frozen=True)
class Sample:
    """One training or validation image, augmented: `image` is (3, H, W) uint8 RGB.

    `original_size` is that of the image in the prepared data, before any resize.
    """

    image_id: int
    image: Tensor
    targets: Targets
    original_size: Size


@dataclass(frozen=True)
class Batch:
    """What the loader yields: images padded to one tensor, and one entry per image of everything else."""

    images: ImageBatch
    targets: tuple[Targets, ...]
    image_ids: tuple[int, ...]
    original_sizes: tuple[Size, ...]


@dataclass(frozen=True)
class Detections:
    """Output of the instance branch for one image, by descending score, at the network's input size.

    Attributes:
        boxes: (D, 4), clipped to the image.
        scores: (D,) 0..1.
        labels: (D,) int64, 1..T.
        mask_logits: (D, 28, 28) logits of the detected class.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Tensor) -> Detections:
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.mask_logits[keep])


@dataclass(frozen=True)
class PredictedSegment:
    """One segment of a prediction. `score` is the detection's for things, None for stuff."""

    segment_id: int
    class_id: int
    area: int
    score: float | None = None


@dataclass(frozen=True)
class PanopticPrediction:
    """What UPSNet says about one image, at the original size.

    Attributes:
        image_id: the data set's id.
        panoptic_map: (H, W) int32 segment ids, VOID where unknown.
        segments: one entry per id in `panoptic_map`.
        semantic_map: (H, W) uint8, argmax of the semantic head.
        detections: the instance branch's output for AP, boxes scaled to the original size.
        milliseconds: run time by part, `network` and `postprocessing`.
    """

    image_id: int
    panoptic_map: np.ndarray
    segments: tuple[PredictedSegment, ...]
    semantic_map: np.ndarray
    detections: Detections
    milliseconds: dict[str, float] = field(default_factory=dict)


def pad_images(images: Sequence[Tensor], multiple: int = 32) -> ImageBatch:
    """Joins (3, h, w) uint8 images into one batch, zero padded to the largest size and a multiple of 32."""
    sizes = tuple((int(image.shape[1]), int(image.shape[2])) for image in images)
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    for slot, image in zip(pixels, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return ImageBatch(pixels, sizes)
