"""The heuristic merge by its words: whole-image masks, one after the other, and set operations on RLEs."""

import numpy as np
import torch.nn.functional as F
from pycocotools import mask as rle


def whole_mask(mask_logits, box, size):
    """(H, W) bool: the logits resized into the box, rounded outwards and clipped, and above 0."""
    height, width = size
    x1, y1, x2, y2 = (float(v) for v in box)
    x0, y0 = min(max(int(np.floor(x1)), 0), width - 1), min(max(int(np.floor(y1)), 0), height - 1)
    x_end, y_end = max(min(int(np.ceil(x2)), width), x0 + 1), max(min(int(np.ceil(y2)), height), y0 + 1)
    inside = F.interpolate(
        mask_logits[None, None], size=(y_end - y0, x_end - x0), mode="bilinear", align_corners=False
    )
    mask = np.zeros(size, bool)
    mask[y0:y_end, x0:x_end] = (inside[0, 0] > 0).numpy()
    return mask


def slow_merge(masks, scores, class_ids, semantic_map, num_stuff, settings):
    """Returns a list of (class_id, score, (H, W) bool pixels): stuff by class, then instances by score.

    `masks` are (H, W) bool; instances of equal score keep their order.
    """
    used = encode(np.zeros(semantic_map.shape, bool))
    things = []
    for i in sorted(range(len(masks)), key=lambda i: -scores[i]):
        if scores[i] < settings.heuristic_score_thresh:
            continue
        whole = encode(masks[i])
        area = int(rle.area(whole))
        if area == 0:
            continue
        covered = int(rle.area(rle.merge([used, whole], intersect=True)))
        if covered / area > settings.heuristic_overlap_thresh:
            continue
        things.append((class_ids[i], scores[i], masks[i] & ~decode(used)))
        used = rle.merge([used, whole])
    stuff = []
    for class_id in range(num_stuff):
        left = (semantic_map == class_id) & ~decode(used)
        if left.sum() >= settings.stuff_area:
            stuff.append((class_id, None, left))
    return [segment for segment in stuff + things if segment[2].any()]


def encode(mask):
    return rle.encode(np.asfortranarray(mask, np.uint8))


def decode(encoded):
    return rle.decode(encoded).astype(bool)
