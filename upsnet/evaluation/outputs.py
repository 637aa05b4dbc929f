"""What `evaluate` writes: predictions in COCO panoptic format, metrics, the per-class table and strips.

`metrics.json` is written last, so a folder that has it is complete.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from upsnet.data.categories import CategoryTable
from upsnet.evaluation.report import per_class_rows
from upsnet.storage import write_file
from upsnet.structures import Size
from upsnet.visualize import save_png

SUMMARY = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP")


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
    write_file(json.dumps(coco_panoptic(images, table)), out / "predictions.json")
    shutil.rmtree(out / "strips", ignore_errors=True)
    (out / "strips").mkdir()
    for image in images:
        if image.strip is not None:
            save_png(image.strip, out / "strips" / f"{image.image_id}.png")
    write_file(per_class_csv(metrics), out / "per_class.csv")
    write_file(json.dumps(summary(metrics), indent=1) + "\n", out / "summary.json")
    write_file(json.dumps(metrics, indent=1, allow_nan=False) + "\n", out / "metrics.json")


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


def summary(metrics: dict[str, Any]) -> dict[str, float | None]:
    """The few figures by which runs are compared, flat, as the tables of DVC want them."""
    return {name: metrics.get(name) for name in SUMMARY} | {"ms": metrics["milliseconds"]["total"]}


def per_class_csv(metrics: dict[str, Any]) -> str:
    """One line per class; a figure that is not defined is empty."""
    text = io.StringIO()
    rows = per_class_rows(metrics)
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _png_name(image: PredictedImage) -> str:
    return f"{image.image_id:012d}.png"


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """The folder appears with all its files or not at all, in the place of an older one."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, data in files.items():
        (beside / name).write_bytes(data)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
