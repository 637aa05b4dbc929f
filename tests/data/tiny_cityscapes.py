"""A folder like Cityscapes as downloaded, of small images in several cities, to be spoiled by tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from upsnet.config import CityscapesConfig, DataConfig

HEIGHT, WIDTH = 64, 128

NAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "hamburg_000000_000042", "ulm_000003_000019"],
    "val": ["frankfurt_000000_000294", "munster_000000_000019"],
}

CARAVAN = 29_003  # counted in the truth, but not by the benchmark


def instance_values() -> np.ndarray:
    """(H, W) a street: void edge, road, sidewalk, sky, two cars, a bicycle, a crowd of persons, a caravan."""
    values = np.full((HEIGHT, WIDTH), 23)  # sky
    values[:, :2] = 3  # out of roi
    values[20:, 2:] = 11  # building
    values[40:, 2:] = 7  # road
    values[36:40, 60:] = 8  # sidewalk
    values[38:54, 10:34] = 26_000
    values[40:56, 30:60] = 26_001
    values[34:52, 70:86] = 33_005
    values[28:38, 90:124] = 24  # persons that nobody could tell apart
    values[42:50, 100:120] = CARAVAN
    values[50:52, 20:24] = 65_535  # a license plate, -1 in 16 bits
    values[60:, :] = 1  # ego vehicle
    return values


class TinyCityscapes:
    """Four training and two validation images; change the files, then call `config`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for split, names in NAMES.items():
            for number, name in enumerate(names):
                values = instance_values()
                values[38:54, 10:34][:, :number] = 7
                self.write(split, name, values, np.random.default_rng(number))

    def write(self, split: str, name: str, values: np.ndarray, random: np.random.Generator) -> None:
        for path in (self.image(split, name), self.truth(split, name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        classes = label_ids(values)
        colours = np.stack([classes * 7, classes * 5, 255 - classes * 6], axis=-1) % 256
        noise = random.integers(-8, 8, (*classes.shape, 3))
        Image.fromarray(np.clip(colours + noise, 0, 255).astype(np.uint8)).save(self.image(split, name))
        write_truth(self.truth(split, name), values)
        Image.fromarray(classes.astype(np.uint8)).save(self.label_ids(split, name))
        # What the download has besides.
        self.truth(split, name).with_name(f"{name}_gtFine_polygons.json").write_text("{}")
        Image.fromarray(colours.astype(np.uint8)).save(
            self.truth(split, name).with_name(f"{name}_gtFine_color.png")
        )

    def image(self, split: str, name: str) -> Path:
        return self.root / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png"

    def truth(self, split: str, name: str) -> Path:
        return self.root / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_instanceIds.png"

    def label_ids(self, split: str, name: str) -> Path:
        return self.truth(split, name).with_name(f"{name}_gtFine_labelIds.png")

    def config(self) -> DataConfig:
        return DataConfig(source="cityscapes", cityscapes=CityscapesConfig(root=str(self.root)))


def label_ids(values: np.ndarray) -> np.ndarray:
    """(H, W) labelIds of instanceIds; the license plate is 255 there."""
    return np.where(values == 65_535, 255, np.where(values >= 1000, values // 1000, values))


def write_truth(path: Path, values: np.ndarray) -> None:
    """A 16-bit grey PNG, as the download has it."""
    Image.fromarray(values.astype(np.uint16)).save(path)
