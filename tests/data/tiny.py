"""Hand-made prepared data of a few small images, for tests that need a real folder of shards."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from upsnet.data.categories import CategoryTable
from upsnet.data.panoptic_png import encode_panoptic_png
from upsnet.data.shards import PreparedData, Record, ShardWriter, write_manifest
from upsnet.structures import Category, Segment, Size

ROAD, SKY, CAR, PERSON = 7, 21, 3, 90
"""Category ids: class ids 0 and 1 (stuff), 2 and 3 (things, labels 1 and 2)."""

TABLE = CategoryTable(
    (
        Category(ROAD, "road", False, (128, 64, 128)),
        Category(SKY, "sky", False, (70, 130, 180)),
        Category(CAR, "car", True, (0, 0, 142)),
        Category(PERSON, "person", True, (220, 20, 60)),
    )
)


def segment(segment_id: int, category_id: int, iscrowd: bool = False) -> Segment:
    """A segment whose bbox and area do not matter."""
    return Segment(segment_id, category_id, iscrowd, (0, 0, 1, 1), 1)


def record(image_id: int, size: Size) -> Record:
    """A random JPEG with sky above road, one car whose place depends on the id, and a void corner."""
    height, width = size
    random = np.random.default_rng(image_id)
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    panoptic_map = np.full(size, 1000 + image_id, np.int32)
    panoptic_map[height // 2 :] = 70_000
    top, left = random.integers(0, height // 2), random.integers(0, width // 2)
    panoptic_map[top : top + height // 3, left : left + width // 3] = 2**24 - 1
    panoptic_map[-2:, -2:] = 0
    segments = (segment(1000 + image_id, SKY), segment(70_000, ROAD), segment(2**24 - 1, CAR))
    return Record(image_id, jpeg(pixels), encode_panoptic_png(panoptic_map), segments)


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def prepared(folder: Path, records: Sequence[tuple[Record, Size]]) -> PreparedData:
    """Writes the records as training split, in several shards; the validation split is one image."""
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder, "train", 20_000) as train, ShardWriter(folder, "val", 20_000) as val:
        for entry, size in records:
            train.add(entry, size)
        val.add(record(1, (40, 60)), (40, 60))
    splits = {"train": train.summary(), "val": val.summary()}
    write_manifest(folder, TABLE, splits, source={}, skipped=[])
    return PreparedData(folder)


def prepared_sizes(folder: Path, sizes: Sequence[Size]) -> PreparedData:
    """Prepared data with one image per size; image ids are 100, 101, ..."""
    return prepared(folder, [(record(100 + i, size), size) for i, size in enumerate(sizes)])
