"""The source `cityscapes`: leftImg8bit and gtFine as downloaded and unpacked.

An image `<city>/<name>_leftImg8bit.png` has its truth in `<city>/<name>_gtFine_instanceIds.png`, a 16-bit
grey PNG: `label id * 1000 + number` for a countable object, the plain label id for everything else. A thing
class by its plain id is a crowd region. Which labels there are, and which are void, cityscapesscripts says.

Shapes: H x W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from cityscapesscripts.helpers.labels import Label, labels
from PIL import Image

from upsnet.config import CityscapesConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.faults import Fault, Findings, listed
from upsnet.data.panoptic_png import encode_panoptic_png, measure_segments
from upsnet.data.shards import SPLITS, Record, SplitName
from upsnet.data.source_files import from_file, read_file
from upsnet.data.source_image import to_jpeg
from upsnet.data.sources import FIRST_ID, Reading
from upsnet.errors import DataError
from upsnet.structures import VOID, Category, Segment, Size

IMAGES, TRUTH = "leftImg8bit", "gtFine"
ENDINGS = {IMAGES: "_leftImg8bit.png", TRUTH: "_gtFine_instanceIds.png"}
LABEL_IDS_ENDING = "_gtFine_labelIds.png"

INSTANCES = 1000
"""From this value on, a pixel of the truth names a single object: label id * 1000 + number."""

UNKNOWN = -1
"""Marks the values of the truth that the label table does not know."""

MOST_DISAGREEMENT = 0.01
"""Share of pixels up to which instanceIds and labelIds may disagree: of mixed-up files nearly all do."""


class CityscapesSource:
    """Cityscapes, both splits. Segment ids are the values of instanceIds, as in the official converter.

    Images have no numbers of their own: they are counted in the order of their names, from `FIRST_ID` on.

    Attributes:
        categories: 11 stuff and 8 thing classes; category_id is the label id.
        faults: images without truth, and truths without image.

    Raises:
        DataError: folders are missing; all of them come in one message.
    """

    def __init__(self, config: CityscapesConfig) -> None:
        self._root = Path(config.root)
        _refuse_missing_folders(self._root)
        self._names: dict[SplitName, list[str]] = {}
        self.faults: list[Fault] = []
        for split in SPLITS:
            images, truths = (_names(self._root, kind, split) for kind in (IMAGES, TRUTH))
            # One without the other is counted, too, so that mending it changes no other image's id.
            self._names[split] = sorted(images | truths)
            self.faults += self._missing(split, images, truths)
        self._faulty = {fault.image_id for fault in self.faults}
        self.categories = cityscapes_categories()
        self._category_of_value = _category_of_value()

    def describe(self) -> dict[str, Any]:
        """The names in the order of their image ids: the only place that still knows them."""
        splits: dict[str, Any] = {
            split: {"first_image_id": FIRST_ID[split], "names": [Path(name).name for name in names]}
            for split, names in self._names.items()
        }
        return {"kind": "cityscapes", **splits}

    def image_ids(self, split: SplitName) -> Sequence[int]:
        """Ids of the images that have a truth."""
        ids = range(FIRST_ID[split], FIRST_ID[split] + len(self._names[split]))
        return [image_id for image_id in ids if image_id not in self._faulty]

    def read(self, split: SplitName, image_id: int) -> Reading:
        """Reads one image with its truth and checks everything that can be wrong with it."""
        findings = Findings(split, image_id)
        name = self._names[split][image_id - FIRST_ID[split]]
        values = from_file(
            self._file(TRUTH, split, name + ENDINGS[TRUTH]), "truth", findings, decode_grey_png
        )
        size = None if values is None else _size(values)
        image = _read_image(self._file(IMAGES, split, name + ENDINGS[IMAGES]), size, findings)
        if values is None or image is None or size is None:
            return Reading(None, (0, 0), tuple(findings.faults), tuple(findings.notes))
        if image[1] != size:
            sizes = f"{image[1]} in {IMAGES}, {size} in {TRUTH}"
            findings.fault("sizes differ", f"{name}: (height, width) is {sizes}")
        categories = self._categories_of_pixels(values, name + ENDINGS[TRUTH], findings)
        self._compare_label_ids(self._file(TRUTH, split, name + LABEL_IDS_ENDING), categories, findings)
        if findings.faults:
            return Reading(None, size, tuple(findings.faults), tuple(findings.notes))
        panoptic_map = np.where(categories == VOID, VOID, values)
        png, segments = encode_panoptic_png(panoptic_map), self._segments(panoptic_map)
        return Reading(Record(image_id, image[0], png, segments), size, (), tuple(findings.notes))

    def _missing(self, split: SplitName, images: set[str], truths: set[str]) -> Iterator[Fault]:
        for image_id, name in enumerate(self._names[split], FIRST_ID[split]):
            if name not in images:
                yield Fault("image missing", split, image_id, f"{name}{ENDINGS[IMAGES]}")
            if name not in truths:
                yield Fault("truth missing", split, image_id, f"{name}{ENDINGS[TRUTH]}")

    def _file(self, kind: str, split: SplitName, name: str) -> Path:
        return self._root / kind / split / name

    def _categories_of_pixels(self, values: np.ndarray, file: str, findings: Findings) -> np.ndarray:
        """(H, W) category ids of the values in a truth, VOID where void or unknown."""
        categories = self._category_of_value[values]
        unknown = np.unique(values[categories == UNKNOWN]).tolist()
        if unknown:
            findings.fault("unknown label value", f"{Path(file).name}: {listed(unknown)}")
        return np.where(categories == UNKNOWN, VOID, categories)

    def _compare_label_ids(self, path: Path, categories: np.ndarray, findings: Findings) -> None:
        """The file is a second opinion only: nothing is said when it is not there."""
        if not path.exists():
            return
        values = from_file(path, "labelIds", findings, decode_grey_png)
        if values is None:
            return
        if values.shape != categories.shape:
            sizes = f"{_size(values)} in labelIds, {_size(categories)} in instanceIds"
            findings.fault("sizes differ", f"{path.name}: (height, width) is {sizes}")
            return
        others = self._categories_of_pixels(values, path.name, findings)
        share = float(np.mean(others != categories))
        if share > MOST_DISAGREEMENT:
            findings.fault("labelIds disagree with instanceIds", f"{path.name}: in {share:.1%} of the pixels")
        elif share > 0:
            findings.note("labelIds disagree with instanceIds, which win", f"{path.name}: {share:.3%}")

    def _segments(self, panoptic_map: np.ndarray) -> tuple[Segment, ...]:
        measured = measure_segments(panoptic_map)
        measured.pop(VOID, None)
        return tuple(self._segment(value, *measured[value]) for value in measured)

    def _segment(self, value: int, bbox: tuple[int, int, int, int], area: int) -> Segment:
        category_id = int(self._category_of_value[value])
        isthing = self.categories.class_id_of[category_id] >= self.categories.num_stuff
        return Segment(value, category_id, isthing and value < INSTANCES, bbox, area)


def cityscapes_categories() -> CategoryTable:
    """The labels that the benchmark evaluates."""
    return CategoryTable(
        tuple(
            Category(label.id, label.name, label.hasInstances, label.color, label.category)
            for label in labels
            if not _is_void(label)
        )
    )


def decode_grey_png(file: BinaryIO) -> np.ndarray:
    """(H, W) int32 values of a grey PNG of 8 or 16 bits.

    Raises:
        DataError: damaged, or no such PNG.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=["PNG"]) as picture:
                mode = picture.mode
                values = np.asarray(picture).astype(np.int32)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"is no PNG, or a damaged one ({type(error).__name__})") from error
    if mode != "L" and not mode.startswith("I"):
        raise DataError(f"is a PNG of mode {mode}, expected a grey one of 8 or 16 bits that holds label ids")
    return values


def _is_void(label: Label) -> bool:
    return bool(label.ignoreInEval or label.trainId in (-1, 255))


def _category_of_value() -> np.ndarray:
    """(65536,) category_id of every 16-bit value: VOID for void labels, UNKNOWN for what is in no table."""
    table = np.full(2**16, UNKNOWN, np.int32)
    for label in labels:
        category_id = VOID if _is_void(label) else label.id
        if label.id < 0:  # license plate: not painted, or -1 without its sign
            table[[label.id & 0xFF, label.id & 0xFFFF]] = category_id
            continue
        table[label.id] = category_id
        if label.hasInstances:
            table[INSTANCES * label.id : INSTANCES * (label.id + 1)] = category_id
    return table


def _refuse_missing_folders(root: Path) -> None:
    missing = [f"{kind}/{split}" for kind in (IMAGES, TRUTH) for split in SPLITS]
    missing = [name for name in missing if not (root / name).is_dir()]
    if missing:
        raise DataError(
            f"data.cityscapes.root: {root}: holds no folder {', '.join(missing)}; unpack "
            "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there, or name the folder that has them"
        )


def _names(root: Path, kind: str, split: SplitName) -> set[str]:
    """`<city>/<name>` of every file of a kind."""
    folder, ending = root / kind / split, ENDINGS[kind]
    return {path.relative_to(folder).as_posix().removesuffix(ending) for path in folder.glob(f"*/*{ending}")}


def _read_image(path: Path, truth_size: Size | None, findings: Findings) -> tuple[bytes, Size] | None:
    """The image as a JPEG, and its size."""
    data = read_file(path, "image", findings)
    if not data:
        return None
    try:
        image = to_jpeg(data, truth_size)
    except DataError as error:
        findings.fault("image unreadable", f"{path.name}: {error}")
        return None
    return image.data, image.size


def _size(pixels: np.ndarray) -> Size:
    return pixels.shape[0], pixels.shape[1]
