"""PQ, SQ and RQ of two data sets in COCO panoptic format, without a model: `upsnet score`.

Of the files it needs what the official evaluation needs: in the truth `annotations` (image_id, file_name,
segments_info with id, category_id, iscrowd, area) and `categories` (id, isthing); in the predictions
`annotations` (image_id, file_name, segments_info with id, category_id). Predictions of images that the truth
does not have are ignored.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.errors import DataError
from upsnet.evaluation.panoptic_quality import (
    ImageMatches,
    MetricCategory,
    TrueSegment,
    count_pairs,
    match_segments,
    panoptic_quality,
)
from upsnet.progress import show_progress
from upsnet.structures import VOID

CHUNK = 8
"""Images that a process fetches at a time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageTask:
    """One image to score: its two PNGs, and the segments that their JSON lists, in order."""

    image_id: int | str
    true_png: Path
    predicted_png: Path
    truth: dict[int, TrueSegment]
    predicted: dict[int, int]


def score(
    truth_json: Path,
    predictions_json: Path,
    truth_dir: Path | None = None,
    predictions_dir: Path | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Scores predictions against the truth, in parallel; the number of processes does not change the result.

    Args:
        truth_json: COCO panoptic JSON of the truth.
        predictions_json: COCO panoptic JSON of the predictions.
        truth_dir: folder of the truth's PNGs; the JSON's name without `.json` when not given.
        predictions_dir: the same of the predictions.
        processes: number of processes; as many as there are cores when not given.

    Returns:
        What `panoptic_quality` returns, classes by `category_id` (as a string).

    Raises:
        DataError: a file is missing, unreadable or not in COCO panoptic format; an image has no prediction; a
            segment is in the PNG but not in the JSON or the reverse, is listed twice or has an unknown
            category; the two PNGs of an image differ in size. The message names the image and the segment.
    """
    truth, predictions = _read_json(truth_json), _read_json(predictions_json)
    categories = _read_categories(truth, truth_json)
    tasks = _pair_images(
        _by_image(truth, truth_json),
        _by_image(predictions, predictions_json),
        (truth_json, _png_folder(truth_json, truth_dir)),
        (predictions_json, _png_folder(predictions_json, predictions_dir)),
        set(categories),
    )
    results = list(show_progress(_score_all(tasks, processes), len(tasks), "score"))
    disagreeing = sum(count for _, count in results)
    if disagreeing:
        log.warning(
            "%s: the area of %d segments differs from their number of pixels in the PNGs; the JSON's area "
            "is used, as the official evaluation does",
            truth_json,
            disagreeing,
        )
    return panoptic_quality((matches for matches, _ in results), categories)


def _score_all(tasks: list[ImageTask], processes: int | None) -> Iterator[tuple[ImageMatches, int]]:
    """Scores the images in their order."""
    wanted = processes or len(os.sched_getaffinity(0))
    wanted = min(wanted, -(-len(tasks) // CHUNK))
    if wanted <= 1:
        yield from map(_score_image, tasks)
        return
    with ProcessPoolExecutor(wanted) as executor:
        yield from executor.map(_score_image, tasks, chunksize=CHUNK)


def _score_image(task: ImageTask) -> tuple[ImageMatches, int]:
    """The matches of one image, and how many true segments have another area than the JSON says."""
    true_map = _decode(task.true_png, task.image_id)
    predicted_map = _decode(task.predicted_png, task.image_id)
    if true_map.shape != predicted_map.shape:
        raise DataError(
            f"{task.predicted_png}: image {task.image_id}: the predicted PNG is {_size_text(predicted_map)}, "
            f"the truth ({task.true_png}) is {_size_text(true_map)}; predict at the size of the image"
        )
    pairs = count_pairs(true_map, predicted_map)
    _check_ids({p for _, p in pairs}, set(task.predicted), task.predicted_png, task.image_id)
    pixels: dict[int, int] = {}
    for (true_id, _), count in pairs.items():
        pixels[true_id] = pixels.get(true_id, 0) + count
    # The official program takes the truth as it is: a segment without pixels is missed, pixels without a
    # segment belong to nobody. So the truth is warned about, not refused.
    truth = {i: TrueSegment(s.category, s.iscrowd, s.area or pixels.get(i, 0)) for i, s in task.truth.items()}
    disagreeing = sum(s.area != pixels.get(i, 0) for i, s in truth.items())
    disagreeing += len(pixels.keys() - truth.keys() - {VOID})
    return match_segments(pairs, truth, task.predicted), disagreeing


def _check_ids(in_png: set[int], in_json: set[int], png: Path, image_id: int | str) -> None:
    in_png = in_png - {VOID}
    for found, missing, where, elsewhere in (
        (in_png, in_json, "PNG", "JSON"),
        (in_json, in_png, "JSON", "PNG"),
    ):
        if found - missing:
            raise DataError(
                f"{png}: image {image_id}: segment {min(found - missing)} is in the {where} but not in the "
                f"{elsewhere}; every id of the PNG except {VOID} (void) must be listed, and the reverse"
            )


def _decode(png: Path, image_id: int | str) -> np.ndarray:
    if not png.is_file():
        raise DataError(f"{png}: the PNG of image {image_id} is missing")
    try:
        return decode_panoptic_png(png)
    except DataError as error:
        raise DataError(f"image {image_id}: {error}") from error


def _size_text(panoptic_map: np.ndarray) -> str:
    height, width = panoptic_map.shape
    return f"{width} x {height} (width x height)"


def _pair_images(
    truth: dict[int | str, dict[str, Any]],
    predictions: dict[int | str, dict[str, Any]],
    truth_source: tuple[Path, Path],
    predictions_source: tuple[Path, Path],
    categories: set[int],
) -> list[ImageTask]:
    """Finds the prediction of every image of the truth and checks what both JSONs list for it.

    A source is the JSON and the folder of its PNGs.
    """
    tasks = []
    for image_id, true in truth.items():
        if image_id not in predictions:
            raise DataError(
                f"{predictions_source[0]}: image {image_id} of {truth_source[0]} has no prediction; every "
                "image of the truth needs one (it may be all void, with empty segments_info)"
            )
        predicted = predictions[image_id]
        true_segments = _segments(true, image_id, truth_source[0], categories)
        predicted_segments = _segments(predicted, image_id, predictions_source[0], categories)
        tasks.append(
            ImageTask(
                image_id,
                truth_source[1] / true["file_name"],
                predictions_source[1] / predicted["file_name"],
                {i: _true_segment(s, i, image_id, truth_source[0]) for i, s in true_segments.items()},
                {i: s["category_id"] for i, s in predicted_segments.items()},
            )
        )
    return tasks


def _segments(
    annotation: dict[str, Any], image_id: int | str, path: Path, categories: set[int]
) -> dict[int, dict[str, Any]]:
    """segments_info of one image by id, in the listed order."""
    segments: dict[int, dict[str, Any]] = {}
    for info in annotation["segments_info"]:
        where = f"{path}: image {image_id}"
        _require(info, {"id": int, "category_id": int}, f"{where}: an entry of segments_info")
        segment_id, category_id = info["id"], info["category_id"]
        if segment_id == VOID:
            raise DataError(f"{where}: segment {segment_id}: this id means void; give the segment another")
        if segment_id in segments:
            raise DataError(f"{where}: segment {segment_id} is listed twice in segments_info")
        if category_id not in categories:
            raise DataError(
                f"{where}: segment {segment_id} has category_id {category_id}, which is not one of the "
                f"{len(categories)} categories of the truth"
            )
        segments[segment_id] = info
    return segments


def _true_segment(info: dict[str, Any], segment_id: int, image_id: int | str, path: Path) -> TrueSegment:
    """A true segment; area 0 where the JSON gives none."""
    iscrowd, area = info.get("iscrowd", 0), info.get("area", 0)
    where = f"{path}: image {image_id}: segment {segment_id}"
    if iscrowd not in (0, 1):
        raise DataError(f"{where}: iscrowd is {iscrowd!r}, expected 0 or 1")
    if not isinstance(area, (int, float)) or not float(area).is_integer() or area < 0:
        raise DataError(f"{where}: area is {area!r}, expected the number of pixels")
    return TrueSegment(info["category_id"], bool(iscrowd), int(area))


def _by_image(values: dict[str, Any], path: Path) -> dict[int | str, dict[str, Any]]:
    """The annotations by image_id, in the listed order."""
    _require(values, {"annotations": list}, str(path))
    images: dict[int | str, dict[str, Any]] = {}
    for number, annotation in enumerate(values["annotations"]):
        where = f"{path}: annotation {number}"
        _require(annotation, {"image_id": (int, str)}, where)
        image_id = annotation["image_id"]
        _require(annotation, {"file_name": str, "segments_info": list}, f"{where} (image {image_id})")
        if image_id in images:
            raise DataError(f"{path}: image {image_id} is annotated twice")
        images[image_id] = annotation
    return images


def _read_categories(truth: dict[str, Any], path: Path) -> dict[int, MetricCategory]:
    _require(truth, {"categories": list}, str(path))
    categories: dict[int, MetricCategory] = {}
    for entry in truth["categories"]:
        _require(entry, {"id": int, "isthing": int}, f"{path}: an entry of categories")
        if entry["id"] in categories:
            raise DataError(f"{path}: category {entry['id']} is listed twice")
        key = str(entry["id"])
        categories[entry["id"]] = MetricCategory(entry.get("name", key), bool(entry["isthing"]), key)
    return categories


def _require(values: Any, keys: dict[str, type | tuple[type, ...]], where: str) -> None:
    """Refuses an object of a JSON that lacks a key or has a value of another type."""
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected an object of COCO panoptic format, found {type(values).__name__}")
    for key, kind in keys.items():
        if key not in values:
            raise DataError(f"{where}: the key {key!r} of COCO panoptic format is missing")
        if not isinstance(values[key], kind):
            kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise DataError(f"{where}: {key!r} is {values[key]!r}, expected {kinds}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected the object of COCO panoptic format, found {type(values).__name__}")
    return values


def _png_folder(json_path: Path, given: Path | None) -> Path:
    folder = given if given is not None else json_path.with_name(json_path.name.removesuffix(".json"))
    if not folder.is_dir():
        raise DataError(
            f"{folder}: the folder with the PNGs of {json_path} does not exist; name it by option"
        )
    return folder
