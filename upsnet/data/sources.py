"""What `prepare` wants of a source of images, and the source that paints its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from upsnet.config import SyntheticConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.faults import Fault
from upsnet.data.panoptic_png import encode_panoptic_png
from upsnet.data.shards import Record, SplitName
from upsnet.data.source_image import encode_jpeg
from upsnet.data.synthetic import CATEGORIES, render_scene
from upsnet.structures import Size

SYNTHETIC_QUALITY = 92
"""JPEG quality of painted scenes."""

FIRST_ID: dict[SplitName, int] = {"train": 0, "val": 1_000_000}
"""Where ids begin in sources that count their images: unique over the splits, whatever their length."""


@dataclass(frozen=True)
class Reading:
    """One image as its source gives it, checked.

    Attributes:
        record: None when there are faults.
        size: height and width of its image and its panoptic map.
        faults: why it cannot be used.
        notes: what is odd about it.
    """

    record: Record | None
    size: Size
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Glance:
    """What one image looks like from outside: by the annotations and the headers of its files.

    Attributes:
        size: height and width, None where no header can be read.
        segments: category_id and iscrowd of every segment.
        faults: why it cannot be used, as far as that can be seen without decoding.
    """

    size: Size | None
    segments: tuple[tuple[int, bool], ...]
    faults: tuple[Fault, ...] = ()


class Source(Protocol):
    """A data set that can be prepared. It is sent to worker processes, so it holds no open files."""

    @property
    def categories(self) -> CategoryTable: ...

    @property
    def faults(self) -> Sequence[Fault]:
        """Faults that were seen before any image was read; `image_ids` leaves these images out."""

    def describe(self) -> dict[str, Any]:
        """For the manifest: what the source is, without paths of this machine."""

    def image_ids(self, split: SplitName) -> Sequence[int]:
        """Ids in ascending order."""

    def read(self, split: SplitName, image_id: int) -> Reading:
        """Reads and checks one image; everything that is wrong with it is in the result, not raised."""


@runtime_checkable
class GlancingSource(Source, Protocol):
    """A source that can also be looked over quickly, every image of it."""

    def glance(self, split: SplitName, image_id: int) -> Glance:
        """Looks at one image without decoding it; what it finds wrong, `read` finds wrong, too."""


class SyntheticSource:
    """Painted street scenes (`upsnet.data.synthetic`)."""

    faults: Sequence[Fault] = ()

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        self.categories = CategoryTable(CATEGORIES)

    def describe(self) -> dict[str, Any]:
        return {"kind": "synthetic", **self._config.model_dump(mode="json")}

    def image_ids(self, split: SplitName) -> Sequence[int]:
        count = self._config.train_images if split == "train" else self._config.val_images
        return range(FIRST_ID[split], FIRST_ID[split] + count)

    def read(self, split: SplitName, image_id: int) -> Reading:
        scene = render_scene(self._config, split, image_id - FIRST_ID[split])
        image = encode_jpeg(scene.image, SYNTHETIC_QUALITY)
        record = Record(image_id, image, encode_panoptic_png(scene.panoptic_map), scene.segments)
        height, width = scene.panoptic_map.shape
        return Reading(record, (height, width))
