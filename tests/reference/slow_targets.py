"""Targets pixel by pixel: the definition, without a thought of speed."""

from collections.abc import Sequence

import numpy as np

from upsnet.data.categories import CategoryTable
from upsnet.structures import IGNORE, Segment


def slow_targets(
    panoptic_map: np.ndarray, segments: Sequence[Segment], table: CategoryTable
) -> tuple[list[list[int]], list[int], np.ndarray, np.ndarray]:
    """Returns boxes, labels, instance map and semantic map."""
    names = table.names
    by_id = {category.category_id: category for category in table.categories}
    boxes, labels = [], []
    instance_map = np.zeros(panoptic_map.shape, int)
    semantic_map = np.full(panoptic_map.shape, IGNORE)
    things = [category.name for category in table.categories if category.isthing]
    for segment in segments:
        pixels = [tuple(p) for p in np.argwhere(panoptic_map == segment.segment_id).tolist()]
        category = by_id[segment.category_id]
        for pixel in pixels:
            semantic_map[pixel] = names.index(category.name)
        if not pixels or not category.isthing or segment.iscrowd:
            continue
        rows, columns = [p[0] for p in pixels], [p[1] for p in pixels]
        boxes.append([min(columns), min(rows), max(columns) + 1, max(rows) + 1])
        labels.append(things.index(category.name) + 1)
        for pixel in pixels:
            instance_map[pixel] = len(boxes)
    return boxes, labels, instance_map, semantic_map
