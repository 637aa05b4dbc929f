"""Reads the JSON of a COCO panoptic data set, and finds what is wrong in it before any image is opened.

Faults of the whole file (its shape, its categories) are raised; faults of one image are listed, so that the
image can be left out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from upsnet.data.categories import CategoryTable
from upsnet.data.faults import Fault
from upsnet.errors import DataError
from upsnet.structures import Size

PARTS = ("images", "annotations", "categories")

_OTHER_FORMATS = {
    "segmentation": "COCO instances, not COCO panoptic",
    "keypoints": "COCO keypoints, not COCO panoptic",
    "caption": "COCO captions, not COCO panoptic",
}


@dataclass(frozen=True, slots=True)
class CocoEntry:
    """One image and its annotation.

    Attributes:
        image_file: name of the image inside its folder.
        png_file: name of the panoptic PNG inside its folder.
        size: height and width if the JSON has them.
        segments: `segments_info` as JSON text, many times smaller than as Python objects.
    """

    image_file: str
    png_file: str
    size: Size | None
    segments: str


@dataclass(frozen=True)
class CocoAnnotations:
    """One split's JSON.

    Attributes:
        table: its categories.
        entries: the usable images by image_id, ascending.
        faults: why others are not usable.
        sha256: checksum of the file.
    """

    table: CategoryTable
    entries: dict[int, CocoEntry]
    faults: tuple[Fault, ...]
    sha256: str


def read_annotations(path: Path, split: str) -> CocoAnnotations:
    """Reads a COCO panoptic JSON.

    Raises:
        DataError: the file is missing, is no JSON or no COCO panoptic; the message says what it looks like.
    """
    data = _read(path)
    values = _parse(data, path)
    table = CategoryTable.from_json(values["categories"], f"{path}: categories")
    for position, image in enumerate(values["images"]):
        _refuse_bad_entry(image, {"id": _is_id, "file_name": _is_text}, f"{path}: images[{position}]")
    wanted = {"image_id": _is_id, "file_name": _is_text, "segments_info": _is_list}
    for position, annotation in enumerate(values["annotations"]):
        _refuse_bad_entry(annotation, wanted, f"{path}: annotations[{position}]")
    faults = _faults_between(values["images"], values["annotations"], split)
    entries = _entries(values["images"], values["annotations"], {fault.image_id for fault in faults})
    return CocoAnnotations(table, entries, tuple(faults), hashlib.sha256(data).hexdigest())


def read_categories(path: Path) -> CategoryTable:
    """Reads the categories of a COCO panoptic JSON alone; raises as `read_annotations`."""
    return CategoryTable.from_json(_parse(_read(path), path)["categories"], f"{path}: categories")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the panoptic JSON cannot be read ({error.strerror})") from error


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    """The parsed file, its three lists made sure of."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(
            f"{path}: is not COCO panoptic: expected an object with {', '.join(PARTS)}, "
            f"found a {type(values).__name__}"
        )
    _refuse_other_formats(values, path)
    missing = [part for part in PARTS if not isinstance(values.get(part), list)]
    if missing:
        found = ", ".join(map(str, list(values)[:8])) or "nothing"
        raise DataError(
            f"{path}: is not COCO panoptic: no list {' and no list '.join(missing)}; found {found}"
        )
    return values


def _refuse_other_formats(values: dict[str, Any], path: Path) -> None:
    annotations = values.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if not isinstance(first, dict) or "segments_info" in first:
        return
    for key, what in _OTHER_FORMATS.items():
        if key in first:
            raise DataError(
                f"{path}: this is {what} (its annotations have {key!r} and no 'segments_info'); "
                "give the panoptic_*.json of the data set"
            )


def _refuse_bad_entry(entry: Any, wanted: Mapping[str, Callable[[Any], str]], where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object with {', '.join(wanted)}, found {entry!r:.80}")
    for key, problem in wanted.items():
        if key not in entry:
            raise DataError(f"{where}: {key} is missing; COCO panoptic needs {', '.join(wanted)} here")
        complaint = problem(entry[key])
        if complaint:
            raise DataError(f"{where}.{key}: expected {complaint}, found {entry[key]!r:.80}")


def _is_id(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return "" if good else "an integer from 0 on (no text, even of digits)"


def _is_text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "a text"


def _is_list(value: Any) -> str:
    return "" if isinstance(value, list) else "a list of segments"


def _faults_between(images: list[Any], annotations: list[Any], split: str) -> list[Fault]:
    """What does not fit together: ids that are repeated or missing on one side, and unsafe file names."""
    image_ids = Counter(image["id"] for image in images)
    annotated = Counter(annotation["image_id"] for annotation in annotations)
    faults = [
        Fault("duplicate image id", split, image_id, f"{count} images have it")
        for image_id, count in image_ids.items()
        if count > 1
    ]
    faults += [
        Fault("duplicate annotation", split, image_id, f"{count} annotations name this image")
        for image_id, count in annotated.items()
        if count > 1
    ]
    for kind, ids in (
        ("image without annotation", image_ids.keys() - annotated.keys()),
        ("annotation of an unknown image", annotated.keys() - image_ids.keys()),
    ):
        detail = "its id is missing in " + ("annotations" if kind.startswith("image") else "images")
        faults += [Fault(kind, split, image_id, detail) for image_id in sorted(ids)]
    names = [(image["id"], image["file_name"]) for image in images]
    names += [(annotation["image_id"], annotation["file_name"]) for annotation in annotations]
    return faults + [
        Fault("unsafe file name", split, image_id, f"{name!r} leads out of its folder")
        for image_id, name in names
        if _leads_out(name)
    ]


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _entries(images: list[Any], annotations: list[Any], left_out: set[int]) -> dict[int, CocoEntry]:
    of_image = {annotation["image_id"]: annotation for annotation in annotations}
    return {
        image["id"]: CocoEntry(
            image["file_name"],
            of_image[image["id"]]["file_name"],
            _size(image),
            json.dumps(of_image[image["id"]]["segments_info"], separators=(",", ":")),
        )
        for image in sorted(images, key=lambda image: int(image["id"]))
        if image["id"] not in left_out
    }


def _size(image: dict[str, Any]) -> Size | None:
    """The size that the JSON states, if it does; prepared data takes its sizes from the pixels."""
    if image.get("height") is None or image.get("width") is None:
        return None
    return image["height"], image["width"]
