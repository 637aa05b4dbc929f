"""Finds the parts of a COCO panoptic data set in a folder, by their usual names and by what they hold."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from upsnet.config import CocoConfig, CocoSplit
from upsnet.data.check import evenly_spread
from upsnet.data.coco_json import CocoAnnotations, read_annotations
from upsnet.data.shards import SPLITS, SplitName
from upsnet.errors import DataError

DEPTH = 3
"""Folders so far below the given one are searched."""

PROBED = 20
"""Files of a split, evenly spread, that a folder is asked for."""

LOOKED_FOR = """looked for
  the annotations: annotations/panoptic_train*.json and panoptic_val*.json, or other JSON files with
    'segments_info' and train or val in their name
  the PNGs: a folder with the name of the JSON (panoptic_train*/), or any that holds them
  the images: train*/ and val*/, images/, or any folder that holds them"""


@dataclass(frozen=True)
class CocoFolder:
    """A data set that was found.

    Attributes:
        config: where its parts lie, below the folder as it was given.
        annotations: what its JSON files say.
    """

    config: CocoConfig
    annotations: dict[SplitName, CocoAnnotations]


def find_coco(folder: Path) -> CocoFolder:
    """Finds both splits of a data set in COCO panoptic format.

    Raises:
        DataError: a part is missing or cannot be told, and what was looked for; or a JSON is not COCO
            panoptic.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    folders, jsons = _contents(folder)
    splits: dict[SplitName, CocoSplit] = {}
    annotations: dict[SplitName, CocoAnnotations] = {}
    for name in SPLITS:
        path = _json_of(name, jsons, folder)
        annotations[name] = found = read_annotations(path, name)
        entries = list(found.entries.values())
        png_names, image_names = ([e.png_file for e in entries], [e.image_file for e in entries])
        masks = _folder_of(png_names, folders, folder, (path.stem, "panoptic", "mask", "label", "annotation"))
        others = [candidate for candidate in folders if candidate != masks]
        images = _folder_of(image_names, others, folder, (name, "image"))
        if masks is None or images is None:
            what = "PNGs" if masks is None else "images"
            raise DataError(f"{folder}: no folder holds the {what} that {path} names; {LOOKED_FOR}")
        default = masks == path.with_suffix("")
        splits[name] = CocoSplit(
            images=str(images), annotations=str(path), masks="" if default else str(masks)
        )
    return CocoFolder(CocoConfig(train=splits["train"], val=splits["val"]), annotations)


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the JSON files at most `DEPTH` below, in order."""
    folders, jsons = [], []
    for place, inside, files in os.walk(folder, followlinks=True):
        inside.sort()
        here = Path(place)
        folders.append(here)
        jsons += [here / name for name in sorted(files) if name.lower().endswith(".json")]
        if len(here.relative_to(folder).parts) == DEPTH:
            inside.clear()
    return folders, jsons


def _json_of(split: SplitName, jsons: Sequence[Path], folder: Path) -> Path:
    """The panoptic JSON of a split."""
    named = [path for path in jsons if split in path.stem.lower()]
    usual = [path for path in named if path.stem.lower().startswith("panoptic")]
    candidates = usual or [path for path in named if _mentions_segments(path)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(str(path.relative_to(folder)) for path in candidates)
        raise DataError(
            f"{folder}: several JSON files can be the {split} split: {names}; move the others elsewhere, or "
            f"write the paths under data.coco.{split} of a preset"
        )
    found = ", ".join(str(path.relative_to(folder)) for path in jsons[:8]) or "none"
    raise DataError(
        f"{folder}: no panoptic JSON of the {split} split; JSON files found: {found}; {LOOKED_FOR}"
    )


def _mentions_segments(path: Path) -> bool:
    """Whether a JSON speaks of segments, without parsing what may be hundreds of megabytes."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"segments_info"') >= 0


def _folder_of(
    files: Sequence[str], folders: Iterable[Path], root: Path, usual: Sequence[str]
) -> Path | None:
    """The folder that holds most of some of the files; of equals, the one of the most usual name."""
    probed = evenly_spread(files, PROBED)

    def rank(folder: Path) -> tuple[int, list[bool]]:
        name = str(folder.relative_to(root)).lower()
        return sum((folder / file).is_file() for file in probed), [word.lower() in name for word in usual]

    best = max(folders, key=rank, default=None)
    return best if best is not None and rank(best)[0] else None
