"""Panoptic quality (PQ, SQ, RQ), value for value as the official COCO panoptic evaluation defines it.

Three steps: `count_pairs` (pixels of every pair of true and predicted segment), `match_segments` (matches and
faults of one image), `panoptic_quality` (figures of a set of images).

Shapes: H x W pixels. Ids are segment ids, VOID = 0. A category is any integer: a `category_id` when two files
are scored, a `class_id` inside the program.

Source: Kirillov et al., Panoptic Segmentation (CVPR 2019), section 4; UPSNet section 4.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upsnet.structures import VOID

PairCounts = dict[tuple[int, int], int]
"""(true segment id, predicted segment id) -> number of pixels that have both; VOID takes part."""

GROUPS = {"": (True, False), "_th": (True,), "_st": (False,)}
"""Suffix of the figures of a group of categories -> the `isthing` of its members: all, things, stuff."""


@dataclass(frozen=True)
class TrueSegment:
    """What the metric needs of a segment of the truth. `area` is in pixels."""

    category: int
    iscrowd: bool
    area: int


@dataclass(frozen=True)
class MetricCategory:
    """What the metric needs of a category; `key` is how it is named in the figures."""

    name: str
    isthing: bool
    key: str


@dataclass(frozen=True)
class ImageMatches:
    """Matches and faults of one image.

    Attributes:
        ious: (category, IoU) of every match, IoU in (0.5, 1].
        false_positives: category of every predicted segment that counts as wrong.
        false_negatives: category of every true segment that was not found.
    """

    ious: tuple[tuple[int, float], ...]
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]


def count_pairs(true_map: np.ndarray, predicted_map: np.ndarray) -> PairCounts:
    """Counts the pixels of every pair of ids in two (H, W) integer maps of equal size.

    Pixels are first joined to runs of equal pairs along the rows, so that few values need sorting.
    """
    pairs = ((true_map.astype(np.int64) << 32) | predicted_map.astype(np.int64)).ravel()
    starts = (
        np.concatenate(([0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1))
        if pairs.size
        else np.array([], int)
    )
    lengths = np.diff(starts, append=pairs.size)
    values, slots = np.unique(pairs[starts], return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, slots, lengths)
    low = (1 << 32) - 1
    return {(v >> 32, v & low): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}


def match_segments(
    pairs: PairCounts, truth: Mapping[int, TrueSegment], predicted: Mapping[int, int]
) -> ImageMatches:
    """Matches the segments of one image.

    Args:
        pairs: what `count_pairs` found in the two maps.
        truth: segment id -> true segment, in the order in which the truth lists them.
        predicted: segment id -> category of the predicted segment; every one has pixels.
    """
    areas: Counter[int] = Counter()
    for (_, predicted_id), count in pairs.items():
        areas[predicted_id] += count
    ious: list[tuple[int, float]] = []
    found: set[int] = set()
    used: set[int] = set()
    for (true_id, predicted_id), intersection in pairs.items():
        true = truth.get(true_id)
        if true is None or true.iscrowd or predicted.get(predicted_id) != true.category:
            continue
        on_void = pairs.get((VOID, predicted_id), 0)
        iou = intersection / (areas[predicted_id] + true.area - intersection - on_void)
        if iou > 0.5:
            ious.append((true.category, iou))
            found.add(true_id)
            used.add(predicted_id)
    missed = [s.category for i, s in truth.items() if i not in found and not s.iscrowd]
    # With several crowd regions of one category only the last listed counts: so does the official program.
    crowds = {s.category: i for i, s in truth.items() if s.iscrowd}
    wrong = [
        category
        for i, category in predicted.items()
        if i not in used and not _is_excused(i, areas[i], crowds.get(category), pairs)
    ]
    return ImageMatches(tuple(ious), tuple(wrong), tuple(missed))


def panoptic_quality(
    images: Iterable[ImageMatches], categories: Mapping[int, MetricCategory]
) -> dict[str, Any]:
    """Figures of a set of images; the order of the images does not change a bit of them.

    Args:
        images: the matches of every image.
        categories: every category of the data set.

    Returns:
        Percent under PQ, SQ, RQ, the number of categories they are means over under N, the same with `_th`
        (things) and `_st` (stuff), None for an empty group; `per_class`: key -> name, isthing, PQ, SQ, RQ
        (None where the category occurs neither in truth nor in prediction), TP, FP, FN.
    """
    ious: defaultdict[int, list[float]] = defaultdict(list)
    wrong: Counter[int] = Counter()
    missed: Counter[int] = Counter()
    for image in images:
        for category, iou in image.ious:
            ious[category].append(iou)
        wrong.update(image.false_positives)
        missed.update(image.false_negatives)
    per_class = {
        entry.key: {"name": entry.name, "isthing": entry.isthing}
        | _class_figures(ious[category], wrong[category], missed[category])
        for category, entry in categories.items()
    }
    figures: dict[str, Any] = {}
    for suffix, kinds in GROUPS.items():
        members = [c for c in per_class.values() if c["isthing"] in kinds and c["PQ"] is not None]
        figures |= _group_means(members, suffix)
    return figures | {"per_class": per_class}


def _is_excused(predicted_id: int, area: int, crowd_id: int | None, pairs: PairCounts) -> bool:
    """Whether most of an unmatched prediction lies on void or on the crowd region of its category."""
    ignored = pairs.get((VOID, predicted_id), 0)
    if crowd_id is not None:
        ignored += pairs.get((crowd_id, predicted_id), 0)
    return ignored / area > 0.5


def _class_figures(ious: list[float], wrong: int, missed: int) -> dict[str, Any]:
    """PQ, SQ, RQ in percent and the counts of one category; `fsum` makes the sum independent of the order."""
    matched = len(ious)
    counts = {"TP": matched, "FP": wrong, "FN": missed}
    if matched + wrong + missed == 0:
        return {"PQ": None, "SQ": None, "RQ": None, **counts}
    total = math.fsum(ious)
    pieces = matched + wrong / 2 + missed / 2
    quality = total / matched if matched else 0.0
    return {"PQ": 100 * total / pieces, "SQ": 100 * quality, "RQ": 100 * matched / pieces, **counts}


def _group_means(members: list[dict[str, Any]], suffix: str) -> dict[str, Any]:
    """Plain means over the categories of a group that occur, None when none does."""
    means: dict[str, Any] = {
        f"{figure}{suffix}": math.fsum(c[figure] for c in members) / len(members) if members else None
        for figure in ("PQ", "SQ", "RQ")
    }
    return means | {f"N{suffix}": len(members)}
