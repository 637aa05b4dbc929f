"""What `upsnet predict` reads and writes: images of any kind in, an overlay, a panoptic PNG and its JSON out.

Shapes: H x W pixels of the original image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from upsnet.data.categories import CategoryTable
from upsnet.data.panoptic_png import encode_panoptic_png, measure_segments
from upsnet.data.transforms import decode_image
from upsnet.errors import DataError
from upsnet.storage import write_file
from upsnet.structures import PanopticPrediction
from upsnet.visualize import draw_overlay, save_png

SUFFIXES = (".png", ".overlay.png", ".json")
"""What one image's files end in: panoptic PNG, picture for people, segments."""


def output_names(images: Sequence[Path], out: Path) -> list[str]:
    """A name per image for its files in `out`: its stem, with a number where that is taken.

    Raises:
        DataError: a file to be written is one of the images.
    """
    taken: set[str] = set()
    names = []
    for image in images:
        stems = (image.stem if n == 1 else f"{image.stem}_{n}" for n in count(1))
        name = next(stem for stem in stems if not taken & _files(stem))
        taken |= _files(name)
        names.append(name)
    overwritten = {(out / file).resolve() for file in taken} & {image.resolve() for image in images}
    if overwritten:
        raise DataError(f"{min(overwritten)} would be overwritten; choose another folder with --out")
    return names


def read_image(path: Path) -> Tensor:
    """Reads any JPEG or PNG.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        DataError: the file is missing or is no readable image; the message names it.
    """
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def write_prediction(
    prediction: PanopticPrediction, image: Tensor, table: CategoryTable, out: Path, name: str
) -> None:
    """Writes the three files of one image; each appears whole or not at all.

    Args:
        prediction: of `image`.
        image: (3, H, W) uint8 RGB.
        table: the classes.
        out: an existing folder.
        name: their common stem, see `output_names`.
    """
    panoptic, overlay, segments = (out / f"{name}{suffix}" for suffix in SUFFIXES)
    classes = [(segment.segment_id, segment.class_id) for segment in prediction.segments]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    save_png(draw_overlay(pixels, prediction.panoptic_map, classes, table.categories), overlay)
    write_file(encode_panoptic_png(prediction.panoptic_map), panoptic)
    values = {"file_name": panoptic.name, "segments_info": segments_info(prediction, table)}
    write_file(json.dumps(values, indent=1), segments)


def segments_info(prediction: PanopticPrediction, table: CategoryTable) -> list[dict[str, Any]]:
    """The segments as COCO panoptic has them, with their category's name and, for things, the score."""
    measured = measure_segments(prediction.panoptic_map)
    return [
        {
            "id": segment.segment_id,
            "category_id": table.categories[segment.class_id].category_id,
            "category": table.names[segment.class_id],
            "isthing": int(table.categories[segment.class_id].isthing),
            "area": segment.area,
            "bbox": list(measured[segment.segment_id][0]),
            "iscrowd": 0,
            **({} if segment.score is None else {"score": round(segment.score, 4)}),
        }
        for segment in prediction.segments
    ]


def _files(stem: str) -> set[str]:
    return {f"{stem}{suffix}" for suffix in SUFFIXES}
