"""A COCO panoptic data set of four small images, to be spoiled by tests."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from upsnet.config import CocoConfig, CocoSplit, DataConfig
from upsnet.data.panoptic_png import encode_panoptic_png

HEIGHT, WIDTH = 12, 16
ROAD, CAR = 7, 3  # category ids: stuff and thing

ROAD_SEGMENT = {"id": 70_000, "category_id": ROAD, "iscrowd": 0, "bbox": [0, 6, 16, 6], "area": 84}
CAR_SEGMENT = {"id": 5, "category_id": CAR, "iscrowd": 0, "bbox": [2, 4, 4, 5], "area": 20}


def tiny_map() -> np.ndarray:
    """Sky is void, the lower half is road, a car stands on its edge."""
    panoptic_map = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    panoptic_map[6:] = 70_000
    panoptic_map[4:9, 2:6] = 5
    return panoptic_map


def picture(mode: str = "RGB", size: tuple[int, int] = (HEIGHT, WIDTH), seed: int = 0) -> Image.Image:
    """A ramp from dark to light with noise; `size` is (height, width)."""
    noise = np.random.default_rng(seed).integers(0, 20, (*size, 1))
    ramp = np.linspace(0, 200, size[1])[None, :, None]
    return Image.fromarray((noise + ramp * [1, 0.9, 0.8]).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


class TinyCoco:
    """Train images 1, 2, 3 and val image 11; change `json` or the files, then call `write` and `config`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.json = {"train": _annotations([1, 2, 3]), "val": _annotations([11])}
        for split, image_ids in (("train", [1, 2, 3]), ("val", [11])):
            (root / split).mkdir(parents=True)
            (root / "annotations" / f"panoptic_{split}").mkdir(parents=True)
            for image_id in image_ids:
                self.image(image_id, split).write_bytes(encoded(picture(seed=image_id)))
                self.png(image_id, split).write_bytes(encode_panoptic_png(tiny_map()))

    def image(self, image_id: int = 1, split: str = "train") -> Path:
        return self.root / split / f"{image_id}.jpg"

    def png(self, image_id: int = 1, split: str = "train") -> Path:
        return self.root / "annotations" / f"panoptic_{split}" / f"{image_id}.png"

    def annotation_file(self, split: str = "train") -> Path:
        return self.root / "annotations" / f"panoptic_{split}.json"

    def segments(self, position: int = 0, split: str = "train") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json[split]["annotations"][position]["segments_info"]
        return found

    def config(self) -> DataConfig:
        """Writes the JSON files and says where everything lies."""
        for split, values in self.json.items():
            self.annotation_file(split).write_text(json.dumps(values))
        splits = {
            split: CocoSplit(
                images=str(self.root / split),
                annotations=str(self.root / f"annotations/panoptic_{split}.json"),
            )
            for split in self.json
        }
        return DataConfig(source="coco", coco=CocoConfig(train=splits["train"], val=splits["val"]))


def _annotations(image_ids: list[int]) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in image_ids],
        "annotations": [
            {
                "image_id": i,
                "file_name": f"{i}.png",
                "segments_info": [dict(CAR_SEGMENT), dict(ROAD_SEGMENT)],
            }
            for i in image_ids
        ],
        "categories": [
            {"id": CAR, "name": "car", "isthing": 1, "supercategory": "vehicle", "color": [0, 0, 142]},
            {"id": ROAD, "name": "road", "isthing": 0},
        ],
    }
