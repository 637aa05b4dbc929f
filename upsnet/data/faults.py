"""What is wrong with a data set, collected image by image and told in one report."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

LARGEST_REPORT = 20
"""Faults that the report spells out; the others are counted."""

ADVICE = {
    "image missing": "put the file into the folder of images, or take the image out of the annotations",
    "PNG missing": "put the file into the folder of PNGs (masks:), or take the image out of the JSON",
    "truth missing": "unpack gtFine again, or take the image away",
    "truth unreadable": "unpack gtFine again",
    "labelIds unreadable": "unpack gtFine again",
    "unknown label value": "the values are label ids of cityscapesscripts; take the files as downloaded",
    "labelIds disagree with instanceIds": "one of them is another image's; unpack gtFine again",
    "image unreadable": "fetch the file again, or write it anew as an ordinary JPEG or PNG",
    "PNG unreadable": "write it anew as an 8-bit RGB PNG with id = R + 256 G + 65536 B",
    "sizes differ": "image, PNG and JSON must agree: resize none of them alone, and PNGs without smoothing",
    "bad segment": "mend the entry of segments_info, or leave it out",
    "duplicate segment id": "give every segment of an image an id of its own",
    "unknown category": "add the category to categories, or give the segment another category_id",
    "segment in the PNG but not in the JSON": "list the id in segments_info, or paint these pixels 0 (void)",
    "segment in the JSON but not in the PNG": "take the segment out of segments_info, or paint its pixels",
    "zero-area segment": "take the segment out of segments_info",
    "duplicate image id": "give every image an id of its own, in images and in annotations",
    "duplicate annotation": "keep one annotation per image",
    "image without annotation": "add its annotation, or take the image out of images",
    "annotation of an unknown image": "add the image to images, or take the annotation out",
    "unsafe file name": "name files by a path inside the folder, without '..' and not from the root",
}
"""What to do about each kind of fault."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one image, or only odd (then it is a note).

    Attributes:
        kind: what the counts go by, for example `image missing`.
        split: `train` or `val`.
        image_id: the data set's id.
        detail: file names without their folder, ids, found and expected values.
    """

    kind: str
    split: str
    image_id: int
    detail: str

    def __str__(self) -> str:
        return f"{self.split} image {self.image_id}: {self.kind}: {self.detail}"


@dataclass
class Findings:
    """Faults and notes of one image, filled while it is checked."""

    split: str
    image_id: int
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    def fault(self, kind: str, detail: str) -> None:
        """The image cannot be used."""
        self.faults.append(Fault(kind, self.split, self.image_id, detail))

    def note(self, kind: str, detail: str) -> None:
        """The image is used, but somebody should know."""
        self.notes.append(Fault(kind, self.split, self.image_id, detail))


def fault_report(faults: Sequence[Fault]) -> str:
    """All faults as one text: the counts per kind, the first of them, and what to do about each kind."""
    images = len({(fault.split, fault.image_id) for fault in faults})
    counts = ", ".join(f"{count} x {kind}" for kind, count in Counter(f.kind for f in faults).most_common())
    lines = [f"the data has {len(faults)} faults in {images} images: {counts}"]
    lines += [f"  {fault}" for fault in faults[:LARGEST_REPORT]]
    if len(faults) > LARGEST_REPORT:
        lines.append(f"  ... and {len(faults) - LARGEST_REPORT} more")
    kinds = dict.fromkeys(fault.kind for fault in faults)
    lines += [f"{kind}: {ADVICE[kind]}" for kind in kinds if kind in ADVICE]
    return "\n".join(lines)


def skipped_images(faults: Iterable[Fault]) -> list[dict[str, Any]]:
    """The images that the faults cost, as the manifest lists them."""
    reasons: dict[tuple[str, int], list[str]] = {}
    for fault in sorted(faults, key=lambda fault: (fault.split, fault.image_id)):
        reasons.setdefault((fault.split, fault.image_id), []).append(f"{fault.kind}: {fault.detail}")
    return [
        {"split": split, "image_id": image_id, "faults": texts}
        for (split, image_id), texts in reasons.items()
    ]


def warn_of(notes: Sequence[Fault]) -> None:
    """One warning per kind of note, with the count and the first examples."""
    for kind, count in Counter(note.kind for note in notes).items():
        examples = [note for note in notes if note.kind == kind][:3]
        texts = "; ".join(f"{note.split} image {note.image_id}: {note.detail}" for note in examples)
        log.warning("%s: %d images, for example %s", kind, count, texts)


def listed(values: Sequence[object], most: int = 5) -> str:
    """The first values, and how many more there are."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more
