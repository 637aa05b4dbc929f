"""The source `coco`: image folder, panoptic JSON and PNG folder per split, every image checked as it is read.

Shapes: H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from upsnet.config import CocoConfig, CocoSplit
from upsnet.data.categories import CategoryTable
from upsnet.data.coco_json import CocoAnnotations, CocoEntry, read_annotations
from upsnet.data.faults import Fault, Findings, listed
from upsnet.data.panoptic_png import (
    HEADER_BYTES,
    MAX_SEGMENT_ID,
    decode_panoptic_png,
    measure_segments,
    panoptic_png_size,
)
from upsnet.data.shards import SPLITS, Record, SplitName
from upsnet.data.source_files import from_file, read_file
from upsnet.data.source_image import JpegImage, possible_sizes, to_jpeg
from upsnet.data.sources import Glance, Reading
from upsnet.errors import DataError
from upsnet.structures import VOID, Segment, Size


class CocoSource:
    """A data set in COCO panoptic format.

    Attributes:
        categories: the table that both splits share.
        faults: what is wrong in the JSON files with single images.

    Raises:
        DataError: a folder or JSON that is missing or not COCO panoptic, or splits of different categories;
            what is wrong with both splits comes in one message.
    """

    def __init__(self, config: CocoConfig) -> None:
        self._folders: dict[SplitName, CocoSplit] = {"train": config.train, "val": config.val}
        self._annotations = _read_both(self._folders)
        self.categories = self._annotations["train"].table
        if self._annotations["val"].table != self.categories:
            raise DataError(
                f"{config.train.annotations} and {config.val.annotations}: their categories differ "
                f"({_difference(self.categories, self._annotations['val'].table)}); both splits need the "
                "same list: give both files the longer one, whether each category occurs or not"
            )
        self.faults: Sequence[Fault] = [fault for name in SPLITS for fault in self._annotations[name].faults]

    def describe(self) -> dict[str, Any]:
        """Names without their folders, and the checksums of the JSON files."""
        splits: dict[str, Any] = {
            name: {
                "images": Path(split.images).name,
                "annotations": Path(split.annotations).name,
                "masks": _masks_folder(split).name,
                "annotations_sha256": self._annotations[name].sha256,
            }
            for name, split in self._folders.items()
        }
        return {"kind": "coco", **splits}

    def image_ids(self, split: SplitName) -> Sequence[int]:
        """Ids of the images that the JSON files leave usable."""
        return list(self._annotations[split].entries)

    def read(self, split: SplitName, image_id: int) -> Reading:
        """Reads one image with its truth and checks everything that can be wrong with it."""
        findings = Findings(split, image_id)
        entry, folders = self._annotations[split].entries[image_id], self._folders[split]
        declared = _declared_segments(json.loads(entry.segments), self.categories, findings)
        png = read_file(_masks_folder(folders) / entry.png_file, "PNG", findings)
        panoptic_map = _decode_map(png, entry.png_file, findings)
        image = _convert_image(
            read_file(Path(folders.images) / entry.image_file, "image", findings),
            entry,
            None if panoptic_map is None else panoptic_map.shape,
            findings,
        )
        if panoptic_map is None or image is None:
            return Reading(None, (0, 0), tuple(findings.faults), tuple(findings.notes))
        _compare_sizes(image.size, panoptic_map.shape, entry.size, findings)
        segments = self._segments(declared, panoptic_map, findings)
        record = None if findings.faults else Record(image_id, image.data, png, segments)
        return Reading(record, image.size, tuple(findings.faults), tuple(findings.notes))

    def glance(self, split: SplitName, image_id: int) -> Glance:
        """Looks at one image's entry in the JSON and at the headers of its files."""
        findings = Findings(split, image_id)
        entry, folders = self._annotations[split].entries[image_id], self._folders[split]
        declared = _declared_segments(json.loads(entry.segments), self.categories, findings)
        png_size = from_file(_masks_folder(folders) / entry.png_file, "PNG", findings, _header_size)
        sizes = from_file(Path(folders.images) / entry.image_file, "image", findings, possible_sizes)
        size = png_size if sizes and png_size in sizes else sizes[0] if sizes else None
        if size is not None and png_size is not None:
            _compare_sizes(size, png_size, entry.size, findings)
        known = [value for value in declared.values() if value is not None]
        segments = tuple((value["category_id"], self._is_crowd(value)) for value in known)
        return Glance(size, segments, tuple(findings.faults))

    def _segments(
        self, declared: dict[int, Any], panoptic_map: np.ndarray, findings: Findings
    ) -> tuple[Segment, ...]:
        """The declared segments in their order, bbox and area counted from the map."""
        measured = measure_segments(panoptic_map)
        measured.pop(VOID, None)
        undeclared = [segment_id for segment_id in measured if segment_id not in declared]
        if undeclared:
            findings.fault("segment in the PNG but not in the JSON", listed(undeclared))
        _compare_ids(declared, measured, findings)
        if findings.faults:
            return ()
        segments = [
            Segment(i, value["category_id"], self._is_crowd(value), *measured[i])
            for i, value in declared.items()
        ]
        _note_differences(segments, declared, findings)
        return tuple(segments)

    def _is_crowd(self, value: dict[str, Any]) -> bool:
        """Only things can be crowds; a crowd of stuff is plain stuff."""
        class_id = self.categories.class_id_of[value["category_id"]]
        return bool(value.get("iscrowd", 0)) and class_id >= self.categories.num_stuff


def _read_both(folders: dict[SplitName, CocoSplit]) -> dict[SplitName, CocoAnnotations]:
    annotations, problems = {}, []
    for name, split in folders.items():
        problems += [
            f"data.coco.{name}.{key}: {folder}: there is no such folder"
            for key, folder in (("images", Path(split.images)), ("masks", _masks_folder(split)))
            if not folder.is_dir()
        ]
        try:
            annotations[name] = read_annotations(Path(split.annotations), name)
        except DataError as error:
            problems.append(f"data.coco.{name}.annotations: {error}")
    if problems:
        raise DataError("\n".join(problems))
    return annotations


def _difference(train: CategoryTable, val: CategoryTable) -> str:
    """How the second table differs from the first, in a few words."""
    ids = {name: set(table.class_id_of) for name, table in (("train", train), ("val", val))}
    parts = [
        f"only in {name}: {listed(sorted(ids[name] - ids[other]))}"
        for name, other in (("train", "val"), ("val", "train"))
        if ids[name] - ids[other]
    ]
    of_val = {category.category_id: category for category in val.categories}
    changed = [c.category_id for c in train.categories if of_val.get(c.category_id, c) != c]
    if changed:
        parts.append(f"other name, kind or colour: {listed(changed)}")
    return "category ids " + "; ".join(parts)


def _masks_folder(split: CocoSplit) -> Path:
    return Path(split.masks) if split.masks else Path(split.annotations).with_suffix("")


def _declared_segments(values: list[Any], table: CategoryTable, findings: Findings) -> dict[int, Any]:
    """`segments_info` by segment id, in its order, without the entries that are no segments."""
    declared: dict[int, Any] = {}
    unknown = []
    for value in values:
        segment_id = value.get("id") if isinstance(value, dict) else None
        if type(segment_id) is not int or not VOID < segment_id <= MAX_SEGMENT_ID:
            findings.fault("bad segment", f"expected an id from 1 to {MAX_SEGMENT_ID}, found {value!r:.80}")
        elif value.get("iscrowd", 0) not in (0, 1):
            findings.fault("bad segment", f"segment {segment_id}: iscrowd is {value['iscrowd']!r:.40}")
        elif segment_id in declared:
            findings.fault("duplicate segment id", f"segment {segment_id} is listed more than once")
        elif type(value.get("category_id")) is not int or value["category_id"] not in table.class_id_of:
            unknown.append(f"{value.get('category_id')!r:.40} (segment {segment_id})")
            declared[segment_id] = None
        else:
            declared[segment_id] = value
    if unknown:
        findings.fault("unknown category", listed(unknown))
    return declared


def _header_size(file: BinaryIO) -> Size:
    return panoptic_png_size(file.read(HEADER_BYTES))


def _decode_map(data: bytes, name: str, findings: Findings) -> np.ndarray | None:
    if not data:
        return None
    try:
        return decode_panoptic_png(data)
    except DataError as error:
        findings.fault("PNG unreadable", f"{name}: {error}")
        return None


def _convert_image(
    data: bytes, entry: CocoEntry, truth_size: tuple[int, ...] | None, findings: Findings
) -> JpegImage | None:
    if not data:
        return None
    try:
        image = to_jpeg(data, (truth_size[0], truth_size[1]) if truth_size else entry.size)
    except DataError as error:
        findings.fault("image unreadable", f"{entry.image_file}: {error}")
        return None
    if image.tag_dropped:
        findings.note(
            "EXIF rotation left out, because the truth has the size of the unrotated pixels", entry.image_file
        )
    elif image.converted:
        findings.note("converted to an 8-bit RGB JPEG", f"{entry.image_file} ({image.converted})")
    return image


def _compare_sizes(image: Size, png: tuple[int, ...], stated: Size | None, findings: Findings) -> None:
    """All sizes that are known must agree, in (height, width)."""
    if image != png or stated not in (None, image):
        json_text = "" if stated is None else f", {stated} in the JSON"
        findings.fault(
            "sizes differ", f"(height, width) is {image} in the image, {png} in the PNG{json_text}"
        )


def _compare_ids(declared: dict[int, Any], measured: Container[int], findings: Findings) -> None:
    """Every declared segment must have pixels."""
    absent = [segment_id for segment_id in declared if segment_id not in measured]
    empty = [i for i in absent if declared[i] is not None and declared[i].get("area") == 0]
    if empty:
        findings.fault("zero-area segment", listed(empty))
    if len(absent) > len(empty):
        others = [segment_id for segment_id in absent if segment_id not in empty]
        findings.fault("segment in the JSON but not in the PNG", listed(others))


def _note_differences(segments: Sequence[Segment], declared: dict[int, Any], findings: Findings) -> None:
    """Notes what the JSON says otherwise than the pixels, which win."""
    crowds = [s.segment_id for s in segments if declared[s.segment_id].get("iscrowd", 0) and not s.iscrowd]
    if crowds:
        findings.note("crowd of a stuff category, taken as plain stuff", f"segment {listed(crowds)}")
    wrong = [s.segment_id for s in segments if _stated_otherwise(declared[s.segment_id], s)]
    if wrong:
        findings.note("bbox or area not as the pixels have it, counted anew", f"segment {listed(wrong)}")


def _stated_otherwise(value: dict[str, Any], segment: Segment) -> bool:
    """Whether a bbox or area is given that is not the segment's; both may be left out."""
    bbox, area = value.get("bbox"), value.get("area")
    return (bbox is not None and bbox != list(segment.bbox)) or (area is not None and area != segment.area)
