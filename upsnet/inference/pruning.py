"""Mask pruning: which detections reach the panoptic head.

Shapes: D detections in, I of them out, by descending score.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from upsnet.config import InferenceConfig
from upsnet.model.panoptic_head import resize_mask_logits
from upsnet.structures import Detections, Size


def prune(detections: Detections, size: Size, settings: InferenceConfig) -> Detections:
    """Keeps the detections that are sure and not hidden by better ones of their class.

    Class-agnostic NMS, then a score threshold, then by descending score each mask goes to the canvas of its
    class; a mask is dropped when it is empty or when too much of it is covered there already.

    Args:
        detections: by descending score, in input pixels.
        size: of the input without padding.
        settings: the `panoptic_` thresholds and `overlap_thresh`.

    Source: UPSNet 3.2 (mask pruning).
    Differs: the canvas only decides; a kept instance keeps all its logits, also where the canvas was taken.
    """
    best = nms(detections.boxes, detections.scores, settings.panoptic_nms_thresh)
    detections = detections[best[detections.scores[best] > settings.panoptic_score_thresh]]
    canvases: dict[int, Tensor] = {}
    kept = []
    for i, label in enumerate(detections.labels.tolist()):
        logits, (y0, x0, y1, x1) = resize_mask_logits(detections.mask_logits[i], detections.boxes[i], size)
        mask = logits > 0
        if label not in canvases:
            canvases[label] = torch.zeros(size, dtype=torch.bool, device=mask.device)
        covered = canvases[label][y0:y1, x0:x1]
        area = int(mask.sum())
        if area and int((mask & covered).sum()) <= settings.overlap_thresh * area:
            covered |= mask
            kept.append(i)
    return detections[torch.tensor(kept, dtype=torch.int64, device=detections.labels.device)]
