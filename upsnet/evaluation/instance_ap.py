"""COCO box and mask AP of the instance branch, by pycocotools.

Shapes: H x W pixels at the original size, D detections. Instances are dictionaries as COCO's program reads
them: `category_id` holds our class_id, `bbox` is x, y, width, height, `segmentation` a compressed RLE.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from upsnet.data.categories import CategoryTable
from upsnet.model.panoptic_head import resize_mask_logits
from upsnet.structures import Detections, Segment, Size

Instance = dict[str, Any]


@dataclass(frozen=True)
class ImageInstances:
    """True and detected instances of one image."""

    image_id: int
    size: Size
    truth: tuple[Instance, ...]
    detections: tuple[Instance, ...]


def true_instances(
    panoptic_map: np.ndarray, segments: Sequence[Segment], table: CategoryTable
) -> tuple[Instance, ...]:
    """The things of an (H, W) map of segment ids; crowd regions count as crowds."""
    return tuple(
        {
            "category_id": table.class_id_of[segment.category_id],
            "bbox": list(segment.bbox),
            "area": segment.area,
            "iscrowd": int(segment.iscrowd),
            "segmentation": _encode(panoptic_map == segment.segment_id),
        }
        for segment in segments
        if table.class_id_of[segment.category_id] >= table.num_stuff
    )


def detected_instances(detections: Detections, size: Size, table: CategoryTable) -> tuple[Instance, ...]:
    """The detections of an image of `size`, their masks (logit above 0) pasted into their boxes."""
    return tuple(
        _detected(detections, i, size, table.thing_class(int(detections.labels[i])))
        for i in range(len(detections))
    )


def average_precision(
    images: Sequence[ImageInstances], table: CategoryTable
) -> tuple[dict[str, float | None], dict[int, dict[str, float | None]]]:
    """Box and mask AP, the mean over IoU 0.50:0.95, in percent; None where the truth has no instance.

    Returns:
        `box_AP` and `mask_AP` of the whole set, and the same per class_id of the things.
    """
    classes = range(table.num_stuff, table.num_classes)
    total: dict[str, float | None] = {}
    per_class: dict[int, dict[str, float | None]] = {class_id: {} for class_id in classes}
    truth, found = _coco(images, classes, "truth"), _coco(images, classes, "detections")
    for name, kind in (("box_AP", "bbox"), ("mask_AP", "segm")):
        precision = _precision(truth, found, kind) if len(images) and len(classes) else np.empty((0, 0, 0))
        total[name] = _mean(precision)
        for slot, class_id in enumerate(classes):
            per_class[class_id][name] = _mean(precision[..., slot]) if precision.size else None
    return total, per_class


def _detected(detections: Detections, i: int, size: Size, class_id: int) -> Instance:
    logits, (y0, x0, y1, x1) = resize_mask_logits(detections.mask_logits[i], detections.boxes[i], size)
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = (logits > 0).numpy()
    left, top, right, bottom = detections.boxes[i].tolist()
    encoded = _encode(mask)
    return {
        "category_id": class_id,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(rle.area(encoded)),
        "iscrowd": 0,
        "segmentation": encoded,
        "score": float(detections.scores[i]),
    }


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool as compressed RLE."""
    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask, np.uint8))
    return encoded


def _coco(images: Sequence[ImageInstances], classes: range, side: str) -> COCO:
    """One side of the comparison as pycocotools wants it, numbered from 1 in the order of the images."""
    coco = COCO()
    instances = [{**entry, "image_id": image.image_id} for image in images for entry in getattr(image, side)]
    coco.dataset = {
        "images": [{"id": i.image_id, "height": i.size[0], "width": i.size[1]} for i in images],
        "categories": [{"id": class_id} for class_id in classes],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(instances, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _precision(truth: COCO, found: COCO, kind: str) -> np.ndarray:
    """(IoU thresholds, recall thresholds, things) precision, -1 where a class has no true instance."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
    # All areas, the largest number of detections (100 per image).
    precision: np.ndarray = evaluation.eval["precision"][:, :, :, 0, -1]
    return precision


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return 100 * float(valid.mean()) if valid.size else None
