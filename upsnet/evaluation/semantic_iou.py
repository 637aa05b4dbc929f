"""Mean IoU of the semantic head, from one confusion matrix for the whole data set.

Shapes: H x W pixels, C classes. Maps hold class ids; IGNORE in the truth is left out.
"""

from __future__ import annotations

import numpy as np

from upsnet.structures import IGNORE


def confusion_matrix(true_map: np.ndarray, predicted_map: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) int64: pixels of true class (row) and predicted class (column); matrices of images add up.

    Args:
        true_map: (H, W) class ids, IGNORE where there is no truth.
        predicted_map: (H, W) class ids.
        num_classes: C.
    """
    valid = true_map != IGNORE
    pairs = true_map[valid].astype(np.int64) * num_classes + predicted_map[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def semantic_iou(confusion: np.ndarray) -> tuple[float | None, list[float | None]]:
    """Mean IoU and the IoU of every class, in percent.

    A class that never occurs in the truth has None and stays out of the mean, which is None without any.
    """
    true = confusion.sum(axis=1)
    intersection = np.diag(confusion)
    union = true + confusion.sum(axis=0) - intersection
    per_class = [
        100 * int(i) / int(u) if t else None for i, u, t in zip(intersection, union, true, strict=True)
    ]
    present = [iou for iou in per_class if iou is not None]
    return (sum(present) / len(present) if present else None), per_class
