"""From a batch of images to panoptic predictions: the network, pruning, the panoptic head, class assignment.

Shapes: H x W the input size, the original size at the end.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from upsnet.config import InferenceConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.transforms import resize_image, resize_scale
from upsnet.inference.pruning import prune
from upsnet.inference.segments import assign_classes, build_segments, resize_map
from upsnet.model.losses import STRIDE
from upsnet.model.network import Network, NetworkOutput
from upsnet.model.panoptic_head import panoptic_argmax
from upsnet.structures import Batch, Detections, ImageBatch, PanopticPrediction, Size, pad_images


class Predictor:
    """Runs a trained network on images.

    Source: UPSNet 3.1 and 3.2 (inference).
    """

    def __init__(
        self, model: Network, table: CategoryTable, config: InferenceConfig, device: torch.device
    ) -> None:
        self.model = model.to(device).eval()
        self.table, self.config, self.device = table, config, device

    def predict(self, batch: Batch) -> list[PanopticPrediction]:
        """Predictions of a batch, at the images' original sizes."""
        return self._predict(batch.images, batch.image_ids, batch.original_sizes)

    def predict_image(self, image: Tensor, image_id: int = 0) -> PanopticPrediction:
        """Prediction of one (3, H, W) uint8 RGB image of any size."""
        original: Size = (int(image.shape[1]), int(image.shape[2]))
        size = resize_scale(original, self.config.short_side, self.config.long_side)
        return self._predict(pad_images([resize_image(image, size)]), (image_id,), (original,))[0]

    @torch.inference_mode()
    def _predict(
        self, images: ImageBatch, image_ids: tuple[int, ...], original_sizes: tuple[Size, ...]
    ) -> list[PanopticPrediction]:
        start = self._now()
        outputs = self.model.predict(images.to(self.device), self.config)
        network = (self._now() - start) / len(images)
        return [
            self._postprocess(output, image_id, original, network)
            for output, image_id, original in zip(outputs, image_ids, original_sizes, strict=True)
        ]

    def _postprocess(
        self, output: NetworkOutput, image_id: int, original: Size, network: float
    ) -> PanopticPrediction:
        start = self._now()
        num_stuff = self.table.num_stuff
        instances = prune(output.detections, output.size, self.config)
        decisions = panoptic_argmax(
            output.semantic_logits,
            STRIDE,
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
        semantic_map = resize_map(decisions.class_id.to(torch.uint8), original).cpu().numpy()
        milliseconds = {"network": network, "postprocessing": self._now() - start}
        detections = _at_original_size(output.detections, output.size, original)
        return PanopticPrediction(image_id, panoptic_map, segments, semantic_map, detections, milliseconds)

    def _now(self) -> float:
        """Milliseconds, once the device has caught up."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1000 * time.perf_counter()


def _at_original_size(detections: Detections, size: Size, original: Size) -> Detections:
    """The detections on the CPU, their boxes scaled from the input to the original size."""
    scale = torch.tensor([original[1] / size[1], original[0] / size[0]] * 2)
    return Detections(
        detections.boxes.cpu() * scale,
        detections.scores.cpu(),
        detections.labels.cpu(),
        detections.mask_logits.cpu(),
    )
