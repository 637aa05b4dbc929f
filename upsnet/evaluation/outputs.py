"""What `evaluate` writes: predictions in COCO panoptic format, metrics, the per-class table and strips.

`metrics.json` is written last, so a folder that has it is complete.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from upsnet.data.categories import CategoryTable
from upsnet.structures import Size
from upsnet.visualize import save_png

PER_CLASS_COLUMNS = ("PQ", "SQ", "RQ", "TP", "FP", "FN", "IoU", "box_AP", "mask_AP")


@dataclass
class PredictedImage:
    """One prediction as files.

    Attributes:
        image_id: the data set's id.
        size: of the image.
        png: panoptic PNG.
        segments_info: of that PNG, as COCO panoptic has it.
        strip: picture image | truth | prediction, for some of the images.
    """

    image_id: int
    size: Size
    png: bytes
    segments_info: list[dict[str, Any]]
    strip: np.ndarray | None = None


def write_outputs(
    out: Path, images: Sequence[PredictedImage], metrics: dict[str, Any], table: CategoryTable
) -> None:
    """Writes the whole folder; what an earlier evaluation left there is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").unlink(missing_ok=True)
    _write_folder(out / "predictions", {_png_name(image): image.png for image in images})
    _write_file(out / "predictions.json", json.dumps(coco_panoptic(images, table)).encode())
    shutil.rmtree(out / "strips", ignore_errors=True)
    for image in images:
        if image.strip is not None:
            save_png(image.strip, out / "strips" / f"{image.image_id}.png")
    _write_file(out / "per_class.csv", per_class_csv(metrics["per_class"]).encode())
    _write_file(out / "metrics.json", (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def coco_panoptic(images: Sequence[PredictedImage], table: CategoryTable) -> dict[str, Any]:
    """Predictions in COCO panoptic format, as the official evaluation and its server take them."""
    return {
        "images": [
            {
                "id": image.image_id,
                "file_name": f"{image.image_id:012d}.jpg",
                "height": image.size[0],
                "width": image.size[1],
            }
            for image in images
        ],
        "annotations": [
            {
                "image_id": image.image_id,
                "file_name": _png_name(image),
                "segments_info": image.segments_info,
            }
            for image in images
        ],
        "categories": table.to_json(),
    }


def per_class_csv(per_class: dict[str, dict[str, Any]]) -> str:
    """One line per class; a figure that is not defined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["category_id", "class", "isthing", *PER_CLASS_COLUMNS])
    for category_id, figures in per_class.items():
        row = [figures[column] for column in PER_CLASS_COLUMNS]
        writer.writerow([category_id, figures["name"], int(figures["isthing"]), *row])
    return text.getvalue()


def _png_name(image: PredictedImage) -> str:
    return f"{image.image_id:012d}.png"


def _write_file(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """The folder appears with all its files or not at all, in the place of an older one."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, data in files.items():
        (beside / name).write_bytes(data)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
