"""Truth for the network from a panoptic map alone.

Shapes: H x W pixels, I instances, S stuff classes.

The map is cut into horizontal runs of equal segment id. There are far fewer runs than pixels, and the ends of
the runs hold all that the boxes need, so that the cost hardly grows with the number of instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upsnet.data.categories import CategoryTable
from upsnet.errors import DataError
from upsnet.structures import IGNORE, VOID, Segment, Targets


def targets_from_panoptic(
    image_id: int, panoptic_map: np.ndarray | Tensor, segments: Sequence[Segment], table: CategoryTable
) -> Targets:
    """Derives boxes, labels, instance map and semantic map from the pixels.

    Args:
        image_id: the data set's id.
        panoptic_map: (H, W) integer segment ids, VOID where unlabelled, at the network's input size.
        segments: category and crowd flag of every id in the map; `bbox` and `area` are not read, and ids
            without a pixel are left out of the result (they vanished in the resize).
        table: categories of the data set.

    Returns:
        instances in the order of `segments`; a crowd thing is no instance, but its pixels keep their class.

    Raises:
        DataError: the map has an id, or a segment a category, that nobody described.
    """
    panoptic_map = np.asarray(panoptic_map)
    runs = _find_runs(panoptic_map)
    known = _describe(image_id, segments, table)
    entry = _entry_of_runs(image_id, runs.segment_ids, known)
    entry_is_present = np.bincount(entry, minlength=len(known.segment_ids)) > 0
    instances = np.flatnonzero(entry_is_present & (known.labels > 0))
    number = np.zeros(len(known.segment_ids), np.int32)
    number[instances] = np.arange(1, len(instances) + 1)
    return Targets(
        image_id,
        boxes=torch.from_numpy(_boxes(runs, number[entry], len(instances))),
        labels=torch.from_numpy(known.labels[instances]),
        instance_map=torch.from_numpy(runs.paint(number[entry])),
        semantic_map=torch.from_numpy(runs.paint(known.class_ids[entry])),
    )


@dataclass(frozen=True)
class _Runs:
    """Horizontal runs of equal id: `segment_ids`, `starts` (flat index) and `lengths`, one entry per run."""

    shape: tuple[int, int]
    segment_ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def paint(self, values: np.ndarray) -> np.ndarray:
        """(H, W) map with one value per run."""
        return np.repeat(values, self.lengths).reshape(self.shape)


@dataclass(frozen=True)
class _Known:
    """What the ids mean, VOID first: `labels` is 0 where the segment is no instance."""

    segment_ids: np.ndarray
    class_ids: np.ndarray
    labels: np.ndarray


def _find_runs(panoptic_map: np.ndarray) -> _Runs:
    height, width = panoptic_map.shape
    begins = np.ones((height, width), bool)
    np.not_equal(panoptic_map[:, 1:], panoptic_map[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=panoptic_map.size)
    return _Runs((height, width), panoptic_map.reshape(-1)[starts], starts, lengths)


def _describe(image_id: int, segments: Sequence[Segment], table: CategoryTable) -> _Known:
    """Lists the ids with their class; the category ids come from a file, so they are checked."""
    num_stuff = table.num_stuff
    segment_ids, class_ids, labels = [VOID], [IGNORE], [0]
    for segment in segments:
        class_id = table.class_id_of.get(segment.category_id)
        if class_id is None:
            raise DataError(
                f"image {image_id}: segment {segment.segment_id} has category_id {segment.category_id}, "
                "which is not among the data set's categories; prepare the data again"
            )
        segment_ids.append(segment.segment_id)
        class_ids.append(class_id)
        is_instance = class_id >= num_stuff and not segment.iscrowd
        labels.append(class_id - num_stuff + 1 if is_instance else 0)
    return _Known(np.array(segment_ids), np.array(class_ids, np.uint8), np.array(labels, np.int64))


def _entry_of_runs(image_id: int, run_ids: np.ndarray, known: _Known) -> np.ndarray:
    """Index into `known` of every run."""
    order = np.argsort(known.segment_ids, kind="stable")
    position = np.searchsorted(known.segment_ids, run_ids, sorter=order)
    entry: np.ndarray = order[np.minimum(position, len(order) - 1)]
    strangers = run_ids[known.segment_ids[entry] != run_ids]
    if len(strangers):
        raise DataError(
            f"image {image_id}: the panoptic PNG has segment id {strangers[0]}, which segments_info lacks; "
            "prepare the data again"
        )
    return entry


def _boxes(runs: _Runs, number: np.ndarray, count: int) -> np.ndarray:
    """(I, 4) float32 tight boxes; `number` is the instance number of every run, 0 for none."""
    width = runs.shape[1]
    rows, lefts = np.divmod(runs.starts, width)
    smallest = np.full((count + 1, 2), np.iinfo(np.int64).max)
    largest = np.zeros((count + 1, 2), np.int64)
    np.minimum.at(smallest[:, 0], number, lefts)
    np.minimum.at(smallest[:, 1], number, rows)
    np.maximum.at(largest[:, 0], number, lefts + runs.lengths)
    np.maximum.at(largest[:, 1], number, rows + 1)
    return np.concatenate([smallest[1:], largest[1:]], axis=1).astype(np.float32)
