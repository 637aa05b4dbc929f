"""Evaluates a predictor on the validation images, over any number of workers with the same result.

Every rank predicts its share of the images and keeps one `EvaluatedImage` each; rank by rank they are
gathered, put in the order of the data set, and turned into figures that do not depend on who did what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from upsnet import distributed
from upsnet.config import Config
from upsnet.data.categories import CategoryTable, refuse_other_categories
from upsnet.data.loader import evaluation_batches
from upsnet.data.panoptic_png import decode_panoptic_png, encode_panoptic_png, measure_segments
from upsnet.data.shards import PreparedData, Record
from upsnet.data.targets import targets_from_panoptic
from upsnet.errors import DataError
from upsnet.evaluation.confusion import write_confusion
from upsnet.evaluation.instance_ap import (
    ImageInstances,
    average_precision,
    detected_instances,
    true_instances,
)
from upsnet.evaluation.outputs import PredictedImage, write_outputs
from upsnet.evaluation.panoptic_quality import (
    ImageMatches,
    MetricCategory,
    TrueSegment,
    count_pairs,
    match_segments,
    panoptic_quality,
)
from upsnet.evaluation.pictures import prediction_strip
from upsnet.evaluation.semantic_iou import confusion_matrix, semantic_iou
from upsnet.progress import show_progress
from upsnet.structures import Batch, PanopticPrediction


class BatchPredictor(Protocol):
    """What `evaluate` needs of a predictor."""

    device: torch.device

    def predict(self, batch: Batch) -> list[PanopticPrediction]:
        """Predictions at the original sizes."""


@dataclass(frozen=True)
class EvaluatedImage:
    """What remains of one image. `written` is None when nothing is to be written."""

    position: int
    matches: ImageMatches
    instances: ImageInstances
    milliseconds: dict[str, float]
    written: PredictedImage | None


@dataclass(frozen=True)
class RankShare:
    """The images of one rank, in order, and the confusion matrix over them."""

    images: list[EvaluatedImage]
    confusion: np.ndarray

    def timings(self) -> list[dict[str, float]]:
        """Run times without the first image, which warms the device up, unless that is all there is."""
        return [image.milliseconds for image in self.images[1:] or self.images]


def evaluate(
    predictor: BatchPredictor,
    data: PreparedData,
    config: Config,
    out: Path | None = None,
    *,
    max_images: int | None = None,
    table: CategoryTable | None = None,
) -> dict[str, Any]:
    """Predicts the validation images and measures the predictions; every rank must call it.

    Args:
        predictor: makes the predictions.
        data: prepared data.
        config: `inference`, `loader.processes` and `evaluation` are read.
        out: rank 0 writes predictions.json, predictions/, metrics.json, per_class.csv, confusion.csv and
            strips/ here; None writes nothing.
        max_images: only the first images; None takes `evaluation.max_images`, 0 takes all.
        table: categories that the model was trained with, those of the data when not given.

    Returns:
        On every rank the metrics as in metrics.json: percent under PQ, SQ, RQ, N (all, `_th`, `_st`), mIoU,
        box_AP, mask_AP; `milliseconds` per image by part (the first image of every rank left out, since it
        warms up); `per_class` by category_id. None stands for a figure that nothing in the truth defines.

    Raises:
        DataError: no validation images, or the model was trained with other categories.
    """
    if table is not None:
        refuse_other_categories(table, data.categories)
    count = _count_images(data, config.evaluation.max_images if max_images is None else max_images)
    strips = strip_positions(count, config.evaluation.strips) if out is not None else set()
    positions = range(distributed.rank(), count, distributed.world_size())
    share = evaluate_share(predictor, data, config, positions, keep=out is not None, strips=strips)
    shares = distributed.gather_to_main(share)
    metrics = None
    if distributed.is_main():
        metrics = {
            "preset": config.preset,
            "variant": config.variant,
            "seed": config.seed,
            "network": config.model.network,
            "device": _device_name(predictor.device),
            "short_side": config.inference.short_side,
            "long_side": config.inference.long_side,
            "scales": list(config.inference.scales),
            **combine_shares(shares, data.categories),
        }
        if out is not None:
            write_confusion(_confusion(shares, data.categories), data.categories.names, out)
            write_outputs(out, [i.written for i in in_order(shares) if i.written], metrics, data.categories)
    result: dict[str, Any] = distributed.broadcast_object(metrics)
    return result


def strip_positions(count: int, strips: int) -> set[int]:
    """Positions of at most `strips` images, evenly spaced over `count`."""
    return {int(position) for position in np.linspace(0, count - 1, min(strips, count)).round()}


def _count_images(data: PreparedData, limit: int) -> int:
    total = len(data.split("val"))
    if total == 0:
        raise DataError(f"{data.folder}: there are no validation images to evaluate; prepare some")
    return min(limit, total) if limit else total


def evaluate_share(
    predictor: BatchPredictor,
    data: PreparedData,
    config: Config,
    positions: Sequence[int],
    *,
    keep: bool,
    strips: set[int],
) -> RankShare:
    """Predicts and measures the validation images at `positions`.

    Args:
        predictor, data, config: as of `evaluate`.
        positions: in the validation split.
        keep: keep the predictions, to be written.
        strips: positions of the images that also get a picture, if kept.
    """
    share = RankShare([], np.zeros((data.categories.num_classes,) * 2, np.int64))
    predictions = _predict(predictor, data, config, positions)
    if distributed.is_main():
        predictions = show_progress(predictions, len(positions), "evaluate")
    for position, prediction in predictions:
        record = data.split("val").read(position)
        image, confusion = _measure(position, prediction, record, data.categories, keep)
        if image.written is not None and position in strips:
            image.written.strip = prediction_strip(prediction, record, data.categories)
        share.images.append(image)
        np.add(share.confusion, confusion, out=share.confusion)
    return share


def _predict(
    predictor: BatchPredictor, data: PreparedData, config: Config, positions: Sequence[int]
) -> Iterator[tuple[int, PanopticPrediction]]:
    batches = evaluation_batches(
        data.split("val"),
        data.categories,
        config.inference,
        indices=positions,
        processes=config.loader.processes,
    )
    remaining = iter(positions)
    for batch in batches:
        for prediction in predictor.predict(batch):
            yield next(remaining), prediction


def _measure(
    position: int, prediction: PanopticPrediction, record: Record, table: CategoryTable, keep: bool
) -> tuple[EvaluatedImage, np.ndarray]:
    """One image's share of every metric, and its confusion matrix."""
    true_map = decode_panoptic_png(record.panoptic_png)
    size = (int(true_map.shape[0]), int(true_map.shape[1]))
    matches = match_segments(
        count_pairs(true_map, prediction.panoptic_map),
        {
            s.segment_id: TrueSegment(table.class_id_of[s.category_id], s.iscrowd, s.area)
            for s in record.segments
        },
        {s.segment_id: s.class_id for s in prediction.segments},
    )
    instances = ImageInstances(
        record.image_id,
        size,
        true_instances(true_map, record.segments, table),
        detected_instances(prediction.detections, size, table),
    )
    semantic = targets_from_panoptic(record.image_id, true_map, record.segments, table).semantic_map.numpy()
    pixels = confusion_matrix(semantic, prediction.semantic_map, table.num_classes)
    written = _to_write(prediction, table) if keep else None
    return EvaluatedImage(position, matches, instances, prediction.milliseconds, written), pixels


def _to_write(prediction: PanopticPrediction, table: CategoryTable) -> PredictedImage:
    """The prediction in COCO panoptic format."""
    measured = measure_segments(prediction.panoptic_map)
    segments_info = [
        {
            "id": segment.segment_id,
            "category_id": table.categories[segment.class_id].category_id,
            "area": measured[segment.segment_id][1],
            "bbox": list(measured[segment.segment_id][0]),
            "iscrowd": 0,
        }
        for segment in prediction.segments
    ]
    height, width = prediction.panoptic_map.shape
    png = encode_panoptic_png(prediction.panoptic_map)
    return PredictedImage(prediction.image_id, (height, width), png, segments_info)


def in_order(shares: Sequence[RankShare]) -> list[EvaluatedImage]:
    """The images of all ranks in the order of the data set."""
    return sorted((image for share in shares for image in share.images), key=lambda image: image.position)


def combine_shares(shares: Sequence[RankShare], table: CategoryTable) -> dict[str, Any]:
    """All metrics of the images of all ranks; how they were shared out changes the run times only."""
    images = in_order(shares)
    categories = {
        class_id: MetricCategory(c.name, c.isthing, str(c.category_id))
        for class_id, c in enumerate(table.categories)
    }
    figures = panoptic_quality((image.matches for image in images), categories)
    figures["mIoU"], ious = semantic_iou(_confusion(shares, table))
    precision, precision_of = average_precision([image.instances for image in images], table)
    per_class = figures.pop("per_class")
    for class_id, category in categories.items():
        nothing = {"box_AP": None, "mask_AP": None}
        per_class[category.key] |= {"IoU": ious[class_id]} | precision_of.get(class_id, nothing)
    timings = [timing for share in shares for timing in share.timings()]
    return {
        "images": len(images),
        "milliseconds": _mean_timings(timings),
        **figures,
        **precision,
        "per_class": per_class,
    }


def _confusion(shares: Sequence[RankShare], table: CategoryTable) -> np.ndarray:
    return sum((share.confusion for share in shares), np.zeros((table.num_classes,) * 2, np.int64))


def _mean_timings(timings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean per image of every part and of their total."""
    parts = list(timings[0])
    means = {part: sum(timing[part] for timing in timings) / len(timings) for part in parts}
    return means | {"total": sum(means.values())}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
