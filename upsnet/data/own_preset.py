"""Writes the preset of one's own data set: a YAML file to look through, its numbers with their reasons.

The numbers lie between the paper's two points, COCO and Cityscapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from upsnet.config import CocoSplit
from upsnet.data.check import evenly_spread
from upsnet.data.coco_folder import find_coco
from upsnet.data.coco_json import CocoAnnotations
from upsnet.data.source_image import possible_sizes
from upsnet.errors import DataError
from upsnet.storage import write_file
from upsnet.storage.local import local_folder
from upsnet.storage.paths import parse_place
from upsnet.structures import Size

MEASURED = 200
"""Training images whose size is looked at."""

COCO_IMAGES, COCO_SEEN = 118_287, 90_000 * 16
"""Images of COCO's train2017, and images that the paper's training sees."""

BATCH = 16
MOST_EPOCHS = 300
FEWEST_ITERATIONS = 9

MANY_CLASSES = 40
"""The paper's weights of the semantic losses are for 19 classes (Cityscapes) and for 133 (COCO)."""

FEW_CLASSES_WEIGHTS = "{semantic: 1.0, semantic_roi: 0.2, panoptic: 0.5}"
MANY_CLASSES_WEIGHTS = "{semantic: 0.2, semantic_roi: 0.04, panoptic: 0.1}"

TEMPLATE = """\
# Preset for {folder},
# written by 'upsnet configure --from-data'; change what you know better. What is not here is the paper's for
# COCO; 'upsnet configure --help-config' is the manual of every key.
# {train} training and {val} validation images
# {num_stuff} stuff classes: {stuff}
# {num_things} thing classes: {things}
data:
  source: coco
  coco: # relative paths count from where upsnet is started
    train:
{train_split}
    val:
{val_split}
loader:
  # The images' short sides are {shortest} to {longest_short} pixels, in the middle {median_short}.
  # The paper enlarges COCO's 480 to 800, and keeps Cityscapes' 1024.
  short_side: [{smallest}, {short}]
  long_side: {long}
model:
  # COCO_V1: torchvision's Mask R-CNN trained on COCO (a download of 170 MB), or the path of that file.
  # 'none': the backbone starts from ImageNet. 'upsnet configure --summary' tells what is filled.
  detector_weights: {detector}
training:
  # {epochs} epochs: the {coco_seen:,} images that the paper's training sees on COCO, by the square root
  # of {train:,} / {coco_images:,} (which comes near its schedule on Cityscapes, too), at most {most_epochs}
  # epochs.
  # In iterations of {batch} images; another number of images or workers follows by the linear rule.
  iterations: {iterations}
  steps: {steps} # at 2/3 and 8/9, as on COCO
  warmup_iterations: {warmup}
  checkpoint_interval: {checkpoints}
  losses: {losses} # {losses_of}, by the number of classes
inference:
  short_side: {short}
  long_side: {long}
  # Smaller stuff becomes void. The paper: 4096 pixels on COCO (1/75 of an image), 2048 on Cityscapes.
  stuff_area: {stuff_area}
"""


@dataclass(frozen=True)
class Resize:
    """Network input: the short side in training from `smallest` to `short`, in inference `short`."""

    smallest: int
    short: int
    long: int


def write_preset(place: str | Path, out: Path) -> str:
    """Writes the preset of a folder, here or in S3, and says how to go on.

    Raises:
        DataError: as `own_preset`; or the file is there already, or is not named `.yaml`.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise DataError(f"{out}: a preset is a YAML file; name it for example my_preset.yaml")
    if out.exists():
        raise DataError(f"{out}: is there already; name another file, so that no change of yours is lost")
    write_file(own_preset(place), out)
    return (
        f"wrote {out}; look it through, then\n"
        f"  upsnet configure --preset {out} --out config.yaml\n"
        "  upsnet prepare --config config.yaml --check"
    )


def own_preset(place: str | Path) -> str:
    """The text of a preset for a COCO panoptic folder; it loads by `load_config`.

    Args:
        place: the folder; one in S3 is fetched whole, since nothing less says what is in the images.

    Raises:
        DataError: a part of the data set is missing, or it is not COCO panoptic.
        StorageError: it cannot be had.
    """
    folder, named = local_folder(place), str(parse_place(place))
    try:
        text = _preset(folder)
    except DataError as error:
        raise DataError(str(error).replace(str(folder), named)) from error
    return text.replace(str(folder), named)


def _preset(folder: Path) -> str:
    found = find_coco(folder)
    train, val = found.annotations["train"], found.annotations["val"]
    table, sizes = train.table, _sizes(train, Path(found.config.train.images))
    resize, shorts = choose_resize(sizes), sorted(min(size) for size in sizes)
    iterations = choose_iterations(len(train.entries))
    many = table.num_classes > MANY_CLASSES
    return TEMPLATE.format(
        folder=folder,
        train=len(train.entries),
        val=len(val.entries),
        num_stuff=table.num_stuff,
        num_things=table.num_things,
        stuff=_some(table.names[: table.num_stuff]),
        things=_some(table.names[table.num_stuff :]),
        train_split=_yaml(found.config.train),
        val_split=_yaml(found.config.val),
        shortest=shorts[0],
        longest_short=shorts[-1],
        median_short=round(median(shorts)),
        **vars(resize),
        detector="COCO_V1" if table.num_things else "none",
        epochs=round(iterations * BATCH / len(train.entries)),
        coco_seen=COCO_SEEN,
        coco_images=COCO_IMAGES,
        most_epochs=MOST_EPOCHS,
        batch=BATCH,
        iterations=iterations,
        steps=[iterations * 2 // 3, iterations * 8 // 9],
        warmup=min(1500, iterations // 10),
        checkpoints=min(5000, max(100, iterations // 10)),
        losses=MANY_CLASSES_WEIGHTS if many else FEW_CLASSES_WEIGHTS,
        losses_of="the paper's for COCO" if many else "the paper's for Cityscapes",
        stuff_area=choose_stuff_area(sizes),
    )


def choose_resize(sizes: Sequence[Size]) -> Resize:
    """The size of the network's input, from (height, width) of some images.

    Small images are enlarged as the paper enlarges COCO's, by 800 / 480 up to 800; large ones keep their size
    up to 1024, and are trained from 800 on, as Cityscapes'.
    """
    native = round(median(min(size) for size in sizes))
    short = min(native, 1024) if native > 800 else min(800, 32 * math.ceil(native * 800 / 480 / 32))
    aspects = sorted(max(size) / min(size) for size in sizes)
    aspect = aspects[math.ceil(0.95 * len(aspects)) - 1]  # the most oblong images are shrunk
    long = min(2048, 32 * math.ceil(short * aspect / 32))
    return Resize(min(short, 800), short, max(short, long))


def choose_iterations(images: int) -> int:
    """Length of a training on so many images, in iterations of `BATCH`.

    Source: UPSNet 6.1: 90,000 on COCO; on Cityscapes' 2,975 images 12,000, and this gives 14,273.
    """
    seen = min(COCO_SEEN * math.sqrt(images / COCO_IMAGES), MOST_EPOCHS * images)
    return max(FEWEST_ITERATIONS, math.ceil(seen / BATCH))


def choose_stuff_area(sizes: Sequence[Size]) -> int:
    """Smallest stuff in pixels: 2048 for images of a megapixel, else 1/75 of the image up to 4096."""
    pixels = median(height * width for height, width in sizes)
    return 2048 if pixels > 10**6 else min(4096, int(pixels / 75))


def _sizes(annotations: CocoAnnotations, images: Path) -> list[Size]:
    """Sizes of some images by their headers."""
    sizes = []
    for entry in evenly_spread(list(annotations.entries.values()), MEASURED):
        try:
            with (images / entry.image_file).open("rb") as file:
                sizes.append(possible_sizes(file)[0])
        except (OSError, DataError):
            continue  # what is wrong with single images is for `prepare --check` to say
    if not sizes:
        raise DataError(f"{images}: none of the training images can be read as JPEG or PNG")
    return sizes


def _yaml(split: CocoSplit) -> str:
    """The lines of a split; a JSON text is a YAML text."""
    given = {key: value for key, value in split.model_dump().items() if value}
    return "\n".join(f"      {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return " ".join(", ".join(names[:most]).split()) + more or "none"
