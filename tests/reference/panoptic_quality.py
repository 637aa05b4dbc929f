"""Panoptic quality, slow and obvious: one full-size mask per segment, written from the definition.

Used only as an oracle. It follows the wording of the definition, not the program under test: every pair of
segments is compared, and nothing is shared between images.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def image_faults(
    true_map: np.ndarray,
    predicted_map: np.ndarray,
    truth: list[dict[str, Any]],
    predicted: list[dict[str, Any]],
) -> tuple[list[tuple[int, float]], list[int], list[int]]:
    """(category, IoU) of the matches, categories of the false positives and of the false negatives.

    `truth` and `predicted` are segments_info entries; 0 is void in both maps.
    """
    matches, true_found, predicted_found = [], set(), set()
    void = true_map == 0
    for true in truth:
        for guess in predicted:
            if true["category_id"] != guess["category_id"] or true["iscrowd"]:
                continue
            true_mask, guess_mask = true_map == true["id"], predicted_map == guess["id"]
            intersection = np.sum(true_mask & guess_mask)
            union = np.sum(true_mask) + np.sum(guess_mask) - intersection - np.sum(guess_mask & void)
            if intersection > 0 and intersection / union > 0.5:
                matches.append((true["category_id"], float(intersection / union)))
                true_found.add(true["id"])
                predicted_found.add(guess["id"])
    negatives = [t["category_id"] for t in truth if not t["iscrowd"] and t["id"] not in true_found]
    positives = []
    for guess in predicted:
        if guess["id"] in predicted_found:
            continue
        guess_mask = predicted_map == guess["id"]
        excuse = void.copy()
        crowds = [t for t in truth if t["iscrowd"] and t["category_id"] == guess["category_id"]]
        if crowds:
            excuse |= true_map == crowds[-1]["id"]
        if not np.sum(guess_mask & excuse) / np.sum(guess_mask) > 0.5:
            positives.append(guess["category_id"])
    return matches, positives, negatives


def quality(
    faults: list[tuple[list[tuple[int, float]], list[int], list[int]]], categories: list[dict[str, Any]]
) -> dict[str, Any]:
    """PQ, SQ, RQ (0..1) and N over all categories, things and stuff; None where no category occurs."""
    figures: dict[str, Any] = {}
    for suffix, kinds in (("", (0, 1)), ("_th", (1,)), ("_st", (0,))):
        rows = []
        for category in categories:
            ious = [iou for matches, _, _ in faults for c, iou in matches if c == category["id"]]
            wrong = sum(positives.count(category["id"]) for _, positives, _ in faults)
            missed = sum(negatives.count(category["id"]) for _, _, negatives in faults)
            if category["isthing"] in kinds and len(ious) + wrong + missed > 0:
                size = len(ious) + wrong / 2 + missed / 2
                sq = sum(ious) / len(ious) if ious else 0.0
                rows.append((sum(ious) / size, sq, len(ious) / size))
        for position, name in enumerate(("PQ", "SQ", "RQ")):
            figures[name + suffix] = sum(r[position] for r in rows) / len(rows) if rows else None
        figures["N" + suffix] = len(rows)
    return figures
