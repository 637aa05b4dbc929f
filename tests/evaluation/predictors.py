"""Predictors without a network, for the evaluator's tests: one knows the truth, one is a little wrong."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.data.panoptic_png import decode_panoptic_png, measure_segments
from upsnet.data.shards import PreparedData, Record
from upsnet.data.targets import targets_from_panoptic
from upsnet.structures import IGNORE, Batch, Detections, PanopticPrediction, PredictedSegment


class OraclePredictor:
    """Answers with the truth, moved `shift` pixels down and right."""

    def __init__(self, data: PreparedData, shift: int = 0) -> None:
        self.device = torch.device("cpu")
        self.data, self.shift = data, shift
        self.predicted: list[int] = []

    def predict(self, batch: Batch) -> list[PanopticPrediction]:
        self.predicted += batch.image_ids
        return [self._answer(image_id) for image_id in batch.image_ids]

    def _answer(self, image_id: int) -> PanopticPrediction:
        split, table = self.data.split("val"), self.data.categories
        record = split.read(split.image_ids.index(image_id))
        targets = targets_from_panoptic(
            image_id, decode_panoptic_png(record.panoptic_png), record.segments, table
        )
        panoptic_map = self._predicted_map(record)
        measured = measure_segments(panoptic_map)
        segments = tuple(
            PredictedSegment(s.segment_id, table.class_id_of[s.category_id], measured[s.segment_id][1])
            for s in record.segments
            if s.segment_id in measured
        )
        semantic = np.roll(targets.semantic_map.numpy(), self.shift, axis=1)
        semantic = np.where(semantic == IGNORE, 0, semantic)
        times = {"network": 2.0 + len(self.predicted), "postprocessing": 1.0}
        detections = Detections(
            targets.boxes + self.shift,
            torch.linspace(0.9, 0.5, len(targets.boxes)),
            targets.labels,
            _mask_logits(targets.masks(), targets.boxes),
        )
        return PanopticPrediction(image_id, panoptic_map, segments, semantic, detections, times)

    def _predicted_map(self, record: Record) -> np.ndarray:
        """The true map without its crowd regions, shifted."""
        true_map = decode_panoptic_png(record.panoptic_png)
        crowds = [s.segment_id for s in record.segments if s.iscrowd]
        true_map = np.where(np.isin(true_map, crowds), 0, true_map)
        shifted = np.zeros_like(true_map)
        shifted[self.shift :, self.shift :] = true_map[
            : len(true_map) - self.shift, : true_map.shape[1] - self.shift
        ]
        return shifted


def _mask_logits(masks: Tensor, boxes: Tensor) -> Tensor:
    """(I, 28, 28) logits whose zero line follows the (I, H, W) masks inside their boxes."""
    logits = torch.empty(len(masks), 28, 28)
    for slot, mask, (x1, y1, x2, y2) in zip(logits, masks, boxes.int().tolist(), strict=True):
        crop = mask[None, None, y1:y2, x1:x2].float() - 0.5
        slot.copy_(F.interpolate(crop, size=(28, 28), mode="bilinear")[0, 0])
    return logits
