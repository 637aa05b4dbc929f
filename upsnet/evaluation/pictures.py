"""Strips: an image, its truth and predictions side by side.

Shapes: H x W pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from upsnet import distributed
from upsnet.config import Config, InferenceConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.loader import evaluation_batches
from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.data.shards import PreparedData, PreparedSplit, Record
from upsnet.data.transforms import decode_image
from upsnet.errors import CheckpointError, DataError
from upsnet.inference.predictor import Predictor
from upsnet.model.network import Network
from upsnet.model.upsnet import UPSNet
from upsnet.structures import PanopticPrediction
from upsnet.tracking import Tracker
from upsnet.visualize import colorize, save_png, strip

PROGRESS_IMAGES = 4
"""Whose pictures a training draws at every evaluation."""

MERGES = {"heuristic merge": "heuristic", "UPSNet": "panoptic"}
"""Title -> `inference.merge`, in the order of the paper's Figure 4."""


def prediction_strip(prediction: PanopticPrediction, record: Record, table: CategoryTable) -> np.ndarray:
    """image | truth | prediction."""
    return strip(_image_and_truth(record, table) | {"prediction": _painted(prediction, table)})


def draw_progress(
    config: Config, data: PreparedData, tracker: Tracker, out: Path, model: Network, iteration: int
) -> None:
    """Draws image | truth | prediction of the same few validation images, as they are after an iteration.

    They go to `<out>/progress/<image id>/`, and to the tracker as one series per image.
    """
    count = min(len(data.split("val")), config.training.evaluation_images)
    positions = np.linspace(0, count - 1, min(PROGRESS_IMAGES, config.evaluation.strips, count)).round()
    chosen = sorted({int(position) for position in positions})
    table, split = data.categories, data.split("val")
    predictor = Predictor(model, table, config.inference, distributed.device())
    batches = evaluation_batches(split, table, config.inference, indices=chosen, processes=0)
    for position, batch in zip(chosen, batches, strict=True):
        record = split.read(position)
        (prediction,) = predictor.predict(batch)
        path = out / "progress" / str(record.image_id) / f"{iteration:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(prediction_strip(prediction, record, table), path)
        tracker.log_picture_at(path, f"progress/{record.image_id}", iteration)


def draw_merges(
    model: Network,
    data: PreparedData,
    settings: InferenceConfig,
    device: torch.device,
    out: Path,
    image_ids: Sequence[int],
) -> Iterator[Path]:
    """Writes image | truth | heuristic merge | UPSNet of validation images to `<out>/<image id>.png`.

    Both merges are made of the same output of the same network, so they differ in nothing else.

    Args:
        model: a trained UPSNet.
        data: prepared data.
        settings: `merge` is not read.
        device: that the network runs on.
        out: an existing folder.
        image_ids: of the validation split.

    Yields:
        the file of every image, once it is written.

    Raises:
        DataError: an image id is not in the validation split.
        CheckpointError: the network has no panoptic head.

    Source: UPSNet, figure 4.
    """
    if not isinstance(model, UPSNet):
        raise CheckpointError(
            f"a {type(model).__name__} has no panoptic head to compare; draw with an UPSNet"
        )
    table, split = data.categories, data.split("val")
    positions = _positions(split, image_ids)
    predictors = {
        title: Predictor(model, table, settings.model_copy(update={"merge": merge}), device)
        for title, merge in MERGES.items()
    }
    batches = evaluation_batches(split, table, settings, indices=positions, processes=0)
    for position, batch in zip(positions, batches, strict=True):
        (output,) = next(iter(predictors.values())).network_outputs(batch)
        (size,) = batch.original_sizes
        record = split.read(position)
        panels = _image_and_truth(record, table) | {
            title: _painted(predictor.postprocess(output, record.image_id, size, 0.0), table)
            for title, predictor in predictors.items()
        }
        path = out / f"{record.image_id}.png"
        save_png(strip(panels), path)
        yield path


def _positions(split: PreparedSplit, image_ids: Sequence[int]) -> list[int]:
    position_of = {image_id: position for position, image_id in enumerate(split.image_ids)}
    unknown = [image_id for image_id in image_ids if image_id not in position_of]
    if unknown:
        raise DataError(
            f"the validation images have no id {', '.join(map(str, unknown))}; "
            f"theirs begin with {', '.join(map(str, split.image_ids[:5]))}"
        )
    return [position_of[image_id] for image_id in image_ids]


def _image_and_truth(record: Record, table: CategoryTable) -> dict[str, np.ndarray]:
    true = [(s.segment_id, table.class_id_of[s.category_id]) for s in record.segments]
    return {
        "image": decode_image(record.image).permute(1, 2, 0).contiguous().numpy(),
        "truth": colorize(decode_panoptic_png(record.panoptic_png), true, table.categories),
    }


def _painted(prediction: PanopticPrediction, table: CategoryTable) -> np.ndarray:
    segments = [(s.segment_id, s.class_id) for s in prediction.segments]
    return colorize(prediction.panoptic_map, segments, table.categories)
