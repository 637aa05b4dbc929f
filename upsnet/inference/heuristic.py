"""The heuristic that merges separate semantic and instance results, for all systems but UPSNet.

Shapes: H x W the original size, D detections, S stuff classes.

One map of codes serves as result and as canvas: a pixel that no instance has taken holds its class id, the
others hold the code of their instance. Every mask is read and pasted inside the window of its box; only the
areas and the segment ids, at the end, take passes over the whole map.
"""

from __future__ import annotations

import numpy as np
import torch

from upsnet.config import InferenceConfig
from upsnet.model.panoptic_head import box_windows, fit_to_window
from upsnet.structures import IGNORE, VOID, Detections, PredictedSegment

FIRST_INSTANCE = IGNORE + 1
"""Code of the best pasted instance, the next one has the next; every value of a semantic map lies below."""

COUNTERS = 8


def merge_heuristic(
    detections: Detections, semantic_map: np.ndarray, num_stuff: int, settings: InferenceConfig
) -> tuple[np.ndarray, tuple[PredictedSegment, ...]]:
    """Instances first, the best on top, then stuff where they leave room.

    By descending score each mask (logit above 0) goes to one canvas for all classes: it is dropped when it is
    empty or when too much of it is covered there already, else its free rest is pasted. What is left belongs
    to the stuff classes that the semantic map has there; those with too few pixels become void, and so do the
    thing pixels of the semantic map.

    Args:
        detections: by descending score, on the CPU, boxes in pixels of the original image.
        semantic_map: (H, W) uint8 class ids at the original size.
        num_stuff: S.
        settings: the `heuristic_` thresholds and `stuff_area`.

    Returns:
        (H, W) int32 segment ids 1..n without gaps, VOID where nothing is, and the segments in that order:
        stuff by class, then instances by descending score.

    Source: UPSNet 4 (the combined method); Kirillov et al., CVPR 2019, 7, as the combine script of the COCO
        panoptic API does it.
    """
    codes = np.array(semantic_map, dtype=np.int32, order="C")
    pasted = _paste_instances(codes, detections, settings)
    areas = _areas(codes, FIRST_INSTANCE + len(pasted))
    segments: list[PredictedSegment] = []
    id_of_code = np.full(len(areas), VOID, dtype=np.int32)
    for class_id in range(num_stuff):
        if areas[class_id] >= max(settings.stuff_area, 1):
            id_of_code[class_id] = len(segments) + 1
            segments.append(PredictedSegment(len(segments) + 1, class_id, areas[class_id]))
    for code, i in enumerate(pasted, FIRST_INSTANCE):
        id_of_code[code] = len(segments) + 1
        class_id, score = num_stuff + int(detections.labels[i]) - 1, float(detections.scores[i])
        segments.append(PredictedSegment(len(segments) + 1, class_id, areas[code], score))
    # torch's index_select looks up a table several times faster than NumPy's indexing.
    flat_map = torch.from_numpy(id_of_code).index_select(0, torch.from_numpy(codes).view(-1))
    return flat_map.view(codes.shape).numpy(), tuple(segments)


def _paste_instances(codes: np.ndarray, detections: Detections, settings: InferenceConfig) -> list[int]:
    """Writes the codes of the instances into an (H, W) map; returns the indices of those pasted, in order."""
    height, width = codes.shape
    windows = box_windows(detections.boxes, (height, width))
    pasted: list[int] = []
    for i, score in enumerate(detections.scores.tolist()):
        if score < settings.heuristic_score_thresh:
            break
        y0, x0, y1, x1 = windows[i]
        mask = fit_to_window(detections.mask_logits[i], windows[i]).numpy() > 0
        canvas = codes[y0:y1, x0:x1]
        free = mask & (canvas < FIRST_INSTANCE)
        area, rest = np.count_nonzero(mask), np.count_nonzero(free)
        if rest and (area - rest) / area <= settings.heuristic_overlap_thresh:
            np.copyto(canvas, FIRST_INSTANCE + len(pasted), where=free)
            pasted.append(i)
    return pasted


def _areas(codes: np.ndarray, length: int) -> list[int]:
    """Number of pixels of every code below `length`.

    Neighbours are mostly equal, and a count waits for the one before it in the same place: so each code has
    eight counters, which the columns use in turn.
    """
    turns = np.arange(codes.shape[1], dtype=np.int32) % COUNTERS * length
    counts = torch.bincount(torch.from_numpy(codes + turns).view(-1), minlength=COUNTERS * length)
    areas: list[int] = counts.view(COUNTERS, length).sum(dim=0).tolist()
    return areas
