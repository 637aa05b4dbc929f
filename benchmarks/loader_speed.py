"""Training images per second of our loader, beside a plain torchvision loop over loose files.

The plain loop is what one writes first: image and panoptic PNG from a folder with Pillow, one mask and box
per segment, and torchvision's resize and flip of image and masks. Both make the same input at short side 800.

    python benchmarks/loader_speed.py ../shared/data/coco_panoptic --images 60
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from upsnet.config import CocoConfig, CocoSplit, DataConfig, LoaderConfig
from upsnet.data.loader import TrainLoader
from upsnet.data.panoptic_png import rgb2id
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData


def coco_split(folder: Path, name: str) -> CocoSplit:
    annotations = folder / "annotations" / f"panoptic_{name}2017.json"
    return CocoSplit(images=str(folder / f"{name}2017"), annotations=str(annotations))


def plain_images(split: CocoSplit) -> Iterator[int]:
    """Loads the images of a split for ever, one by one; yields their number of instances."""
    annotations = json.loads(Path(split.annotations).read_text())
    things = {category["id"] for category in annotations["categories"] if category["isthing"]}
    names = {image["id"]: image["file_name"] for image in annotations["images"]}
    masks_folder = Path(split.annotations).with_suffix("")
    transform = v2.Compose([v2.Resize(800, max_size=1333, antialias=True), v2.RandomHorizontalFlip(0.5)])
    while True:
        for entry in random.sample(annotations["annotations"], len(annotations["annotations"])):
            image = v2.functional.pil_to_tensor(
                Image.open(Path(split.images) / names[entry["image_id"]]).convert("RGB")
            )
            ids = torch.from_numpy(rgb2id(np.array(Image.open(masks_folder / entry["file_name"]))))
            segments = entry["segments_info"]
            masks = torch.stack([ids == segment["id"] for segment in segments])
            image, masks = transform(tv_tensors.Image(image), tv_tensors.Mask(masks.to(torch.uint8)))
            semantic = torch.full(image.shape[1:], 255)
            for segment, mask in zip(segments, masks, strict=True):
                semantic[mask.bool()] = segment["category_id"]
            instances = [s["category_id"] in things and not s["iscrowd"] for s in segments]
            masks = masks.as_subclass(torch.Tensor)[torch.tensor(instances)]
            masks_to_boxes(masks[masks.flatten(1).bool().any(1)])
            yield len(masks)


def our_images(data: PreparedData, processes: int) -> TrainLoader:
    config = LoaderConfig(processes=processes)
    return TrainLoader(data.split("train"), data.categories, config, seed=1)


def images_per_second(stream: Iterator[object], count: int) -> float:
    """Speed over `count` images, after a few that fill the queues and caches."""
    for _ in itertools.islice(stream, 8):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(stream, count):
        pass
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("coco", type=Path, help="folder in COCO's layout: annotations, train2017, val2017")
    parser.add_argument("--images", type=int, default=60, help="images per measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, val = (coco_split(arguments.coco, name) for name in ("train", "val"))
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig(source="coco", coco=CocoConfig(train=train, val=val))
        data = prepare(config, Path(folder) / "prepared")
        plain = images_per_second(plain_images(train), arguments.images)
        print(f"{'plain loop, one process':28} {plain:6.1f} images/s")
        for processes in (0, 1, 2):
            loader = our_images(data, processes)
            speed = images_per_second(loader, arguments.images)
            loader.close()
            print(f"{f'TrainLoader, processes={processes}':28} {speed:6.1f} images/s  {speed / plain:4.1f} x")


if __name__ == "__main__":
    main()
