"""From a batch of images to panoptic predictions: the network, then one of the two ways to merge its halves.

Shapes: H x W the input size, the original size at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from upsnet.config import InferenceConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.transforms import resize_image, resize_scale
from upsnet.inference.heuristic import merge_heuristic
from upsnet.inference.multi_scale import averaged_logits
from upsnet.inference.pruning import prune
from upsnet.inference.segments import assign_classes, build_segments, resize_map
from upsnet.model.network import Network, NetworkOutput
from upsnet.model.panoptic_head import panoptic_argmax, semantic_argmax
from upsnet.structures import (
    Batch,
    Detections,
    GivenInstances,
    PanopticPrediction,
    PredictedSegment,
    Size,
    pad_images,
)

Merged = tuple[np.ndarray, tuple[PredictedSegment, ...], Tensor]
"""(H, W) int32 segment ids and the segments, at the original size; class ids (H, W) at the input size."""


class Predictor:
    """Runs a trained network on images.

    Source: UPSNet 3.1 and 3.2 (inference), 6.1 (multi-scale test).
    """

    def __init__(
        self, model: Network, table: CategoryTable, config: InferenceConfig, device: torch.device
    ) -> None:
        self.model = model.to(device).eval()
        self.table, self.config, self.device = table, config, device

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[PanopticPrediction]:
        """Predictions of a batch, at the images' original sizes."""
        start = self._now()
        outputs = self.network_outputs(batch)
        network = (self._now() - start) / len(outputs)
        return [
            self.postprocess(output, image_id, original, network)
            for output, image_id, original in zip(outputs, batch.image_ids, batch.original_sizes, strict=True)
        ]

    def predict_image(self, image: Tensor, image_id: int = 0) -> PanopticPrediction:
        """Prediction of one (3, H, W) uint8 RGB image of any size."""
        original: Size = (int(image.shape[1]), int(image.shape[2]))
        size = resize_scale(original, self.config.short_side, self.config.long_side)
        batch = Batch(pad_images([resize_image(image, size)]), (), (image_id,), (original,))
        return self.predict(batch)[0]

    def network_outputs(self, batch: Batch) -> list[NetworkOutput]:
        """What the network says about every image of a batch."""
        return self._run(batch, None)

    def instances(self, output: NetworkOutput) -> Detections:
        """The detections that reach the panoptic head."""
        return prune(output.detections, output.size, self.config)

    @torch.inference_mode()
    def postprocess(
        self, output: NetworkOutput, image_id: int, original: Size, network: float
    ) -> PanopticPrediction:
        """Merges what the network says about one image.

        Args:
            output: of the network.
            image_id: the data set's id.
            original: size of the prediction.
            network: milliseconds that the network took.
        """
        start = self._now()
        detections = _at_original_size(output.detections, output.size, original)
        if self.config.merge == "heuristic":
            panoptic_map, segments, class_id = self._merge_heuristic(output, detections, original)
        else:
            panoptic_map, segments, class_id = self._merge_panoptic(output, original)
        milliseconds = {"network": network, "postprocessing": self._now() - start}
        semantic_map = _original_map(class_id, original)
        return PanopticPrediction(image_id, panoptic_map, segments, semantic_map, detections, milliseconds)

    def _run(self, batch: Batch, given: Sequence[GivenInstances] | None) -> list[NetworkOutput]:
        outputs = self.model.predict(batch.images.to(self.device), self.config, given)
        if not self.config.scales:
            return outputs
        logits = averaged_logits(self.model, batch.images, self.config, self.device)
        return [replace(o, semantic_logits=mean) for o, mean in zip(outputs, logits, strict=True)]

    def _merge_panoptic(self, output: NetworkOutput, original: Size) -> Merged:
        """The panoptic head, then the classes of the instances."""
        num_stuff = self.table.num_stuff
        instances = self.instances(output)
        decisions = panoptic_argmax(
            output.semantic_logits,
            output.stride,
            output.size,
            num_stuff,
            instances.boxes,
            instances.labels,
            instances.mask_logits,
            self.model.unknown,
        )
        class_ids = assign_classes(decisions, instances, num_stuff, self.table.num_classes, self.config)
        panoptic_map, segments = build_segments(
            resize_map(decisions.channel, original).cpu().numpy(),
            class_ids.cpu().numpy(),
            instances.scores.cpu().numpy(),
            num_stuff,
            self.config.stuff_area,
        )
        return panoptic_map, segments, decisions.class_id

    def _merge_heuristic(self, output: NetworkOutput, detections: Detections, original: Size) -> Merged:
        """The heuristic of the official combine script, which works at the original size."""
        class_id = semantic_argmax(output.semantic_logits, output.stride, output.size)
        panoptic_map, segments = merge_heuristic(
            detections, _original_map(class_id, original), self.table.num_stuff, self.config
        )
        return panoptic_map, segments, class_id

    def _now(self) -> float:
        """Milliseconds, once the device has caught up."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1000 * time.perf_counter()


def _original_map(class_id: Tensor, original: Size) -> np.ndarray:
    """(H, W) uint8 class ids at the original size."""
    semantic_map: np.ndarray = resize_map(class_id.to(torch.uint8), original).cpu().numpy()
    return semantic_map


def _at_original_size(detections: Detections, size: Size, original: Size) -> Detections:
    """The detections on the CPU, their boxes scaled from the input to the original size."""
    scale = torch.tensor([original[1] / size[1], original[0] / size[0]] * 2)
    return Detections(
        detections.boxes.cpu() * scale,
        detections.scores.cpu(),
        detections.labels.cpu(),
        detections.mask_logits.cpu(),
    )
