"""Images in, segments out: what a server answers, without anything of MLflow."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from upsnet.data.images import decode_image
from upsnet.data.panoptic_png import encode_panoptic_png
from upsnet.errors import DataError
from upsnet.inference.files import segments_info
from upsnet.inference.predictor import Predictor
from upsnet.serving.sources import read_source
from upsnet.training.checkpoint import LoadedModel, load_model

DEVICE_VARIABLE = "UPSNET_SERVE_DEVICE"
"""cpu, cuda or cuda:N; without it the GPU if there is one."""


class ServedModel:
    """A trained network that answers requests.

    Args:
        checkpoint: file; its settings of inference are used.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.loaded: LoadedModel = load_model(checkpoint)
        device = os.environ.get(DEVICE_VARIABLE) or ("cuda" if torch.cuda.is_available() else "cpu")
        self._predictor = Predictor(
            self.loaded.model, self.loaded.table, self.loaded.config.inference, torch.device(device)
        )

    def answer(self, sources: Sequence[object]) -> list[dict[str, Any]]:
        """The answers to several images, in their order.

        Args:
            sources: see `read_source`.

        Raises:
            DataError: one of them is no image; the message says which and why.
        """
        images = []
        for number, source in enumerate(sources, 1):
            try:
                images.append(decode_image(read_source(source)))
            except DataError as error:
                which = f"row {number} of {len(sources)}: " if len(sources) > 1 else ""
                raise DataError(
                    f"{which}image: {error}; expected the base64 of a JPEG or PNG file"
                ) from error
        return [self._answer_one(image) for image in images]

    def _answer_one(self, image: torch.Tensor) -> dict[str, Any]:
        prediction = self._predictor.predict_image(image)
        height, width = prediction.panoptic_map.shape
        return {
            "height": height,
            "width": width,
            "segments": [_segment(info) for info in segments_info(prediction, self.loaded.table)],
            "panoptic_png": base64.b64encode(encode_panoptic_png(prediction.panoptic_map)).decode(),
        }


def _segment(info: dict[str, Any]) -> dict[str, Any]:
    """A segment in the words of the answer; only things have a score."""
    return {
        "segment_id": info["id"],
        "category_id": info["category_id"],
        "class": info["category"],
        "isthing": bool(info["isthing"]),
        "area": info["area"],
        "bbox": info["bbox"],
        **({"score": info["score"]} if "score" in info else {}),
    }
