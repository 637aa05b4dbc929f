"""Sources of images that lie in S3: their copies on this machine take their place."""

from __future__ import annotations

from pathlib import Path

from upsnet.config import CityscapesConfig, CocoConfig, CocoSplit, DataConfig
from upsnet.storage.local import local_file, local_folder
from upsnet.storage.paths import is_remote


def local_sources(config: DataConfig) -> DataConfig:
    """The configuration with paths of this machine; what is in S3 is fetched, as far as it is not here.

    Raises:
        StorageError: something cannot be had.
    """
    coco = config.coco and CocoConfig(train=_split(config.coco.train), val=_split(config.coco.val))
    cityscapes = config.cityscapes and CityscapesConfig(root=_folder(config.cityscapes.root))
    return config.model_copy(update={"coco": coco, "cityscapes": cityscapes})


def _split(split: CocoSplit) -> CocoSplit:
    masks = split.masks
    if not masks and is_remote(split.annotations):
        masks = split.annotations.removesuffix(".json")
    return CocoSplit(
        images=_folder(split.images), annotations=str(_file(split.annotations)), masks=_folder(masks)
    )


def _folder(place: str) -> str:
    return str(local_folder(place)) if is_remote(place) else place


def _file(place: str) -> Path | str:
    return local_file(place) if is_remote(place) else place
