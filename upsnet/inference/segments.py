"""From the panoptic head's decisions to a panoptic map with classes.

Shapes: H x W at the input size, resized to the original; S stuff classes, I instances.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.config import InferenceConfig
from upsnet.model.panoptic_head import PanopticArgmax
from upsnet.structures import VOID, Detections, PredictedSegment, Size


def assign_classes(
    decisions: PanopticArgmax,
    instances: Detections,
    num_stuff: int,
    num_classes: int,
    settings: InferenceConfig,
) -> Tensor:
    """(I,) int64 class ids of the instances.

    An instance keeps the detection's class, unless most of its pixels are one stuff class for the semantic
    head: then it is that stuff class.

    Source: UPSNet 3.1 (instance class assignment).
    """
    own = instances.labels + num_stuff - 1
    if settings.class_assignment == "instance" or len(own) == 0:
        return own
    instance = decisions.channel - num_stuff
    inside = (instance >= 0) & (instance < len(own))
    votes = torch.bincount(
        instance[inside] * num_classes + decisions.class_id[inside], minlength=len(own) * num_classes
    ).view(len(own), num_classes)
    count, mode = votes.max(dim=1)
    stuff_wins = (mode < num_stuff) & (count > settings.mode_frequency * votes.sum(dim=1))
    return torch.where(stuff_wins, mode, own)


def resize_map(values: Tensor, size: Size) -> Tensor:
    """Resizes an (H, W) integer map to `size`, to the nearest pixel."""
    if values.shape == size:
        return values
    # float64 holds every id exactly
    return F.interpolate(values[None, None].double(), size=size, mode="nearest-exact")[0, 0].to(values.dtype)


def build_segments(
    channels: np.ndarray, class_ids: np.ndarray, scores: np.ndarray, num_stuff: int, stuff_area: int
) -> tuple[np.ndarray, tuple[PredictedSegment, ...]]:
    """Numbers the segments of one image; small stuff becomes void.

    Args:
        channels: (H, W) int64 channels of Z at the original size; S + I and above is unknown.
        class_ids: (I,) class of every instance; one below S joins the stuff segment of that class.
        scores: (I,) of the detections.
        num_stuff: S.
        stuff_area: stuff classes with fewer pixels become void.

    Returns:
        (H, W) int32 segment ids 1..n without gaps, VOID where unknown, and the segments in that order.

    Source: UPSNet 3.1 and 4 (area threshold).
    """
    # Every channel's final channel: instances that turned into stuff move there, the rest stay.
    final = np.arange(max(int(channels.max(initial=0)) + 1, num_stuff + len(class_ids) + 1))
    turned = class_ids < num_stuff
    final[num_stuff : num_stuff + len(class_ids)][turned] = class_ids[turned]
    merged = final[channels]
    areas = np.bincount(merged.ravel(), minlength=len(final))
    segment_id_of = np.full(len(final), VOID, dtype=np.int32)
    segments: list[PredictedSegment] = []
    for channel in np.flatnonzero(areas[: num_stuff + len(class_ids)]):
        is_stuff = channel < num_stuff
        if is_stuff and areas[channel] < stuff_area:
            continue
        segment_id_of[channel] = len(segments) + 1
        instance = channel - num_stuff
        segments.append(
            PredictedSegment(
                segment_id=len(segments) + 1,
                class_id=int(channel if is_stuff else class_ids[instance]),
                area=int(areas[channel]),
                score=None if is_stuff else float(scores[instance]),
            )
        )
    return segment_id_of[merged], tuple(segments)
