"""The heuristic merge (being written)."""

from __future__ import annotations

import numpy as np

from upsnet.config import InferenceConfig
from upsnet.structures import Detections, PredictedSegment


def merge_heuristic(
    detections: Detections, semantic_map: np.ndarray, num_stuff: int, settings: InferenceConfig
) -> tuple[np.ndarray, tuple[PredictedSegment, ...]]:
    """Merges instances and semantics."""
    raise NotImplementedError
