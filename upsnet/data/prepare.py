"""Turns a source of images into prepared data, in parallel, checking everything once.

Worker processes read, check and convert; this process writes their results in order, so that the bytes do
not depend on the number of workers. A few images per worker are in memory, never the data set.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upsnet.config import DataConfig
from upsnet.data.cityscapes import CityscapesSource
from upsnet.data.coco import CocoSource
from upsnet.data.faults import Fault, fault_report, skipped_images, warn_of
from upsnet.data.parallel import read_image, workers
from upsnet.data.shards import (
    SPLITS,
    PreparedData,
    ShardWriter,
    SplitName,
    is_prepared_file,
    write_manifest,
)
from upsnet.data.sources import Source, SyntheticSource
from upsnet.data.staging import staged_folder
from upsnet.errors import DataError
from upsnet.progress import show_progress

log = logging.getLogger(__name__)


def prepare(
    config: DataConfig, out: Path, *, skip_bad: bool = False, processes: int | None = None
) -> PreparedData:
    """Checks a source and writes it as prepared data; `out` appears complete or not at all.

    Args:
        config: which source, where it lies, how large the shards are.
        out: the folder to write. Prepared data that is there already is replaced at the end.
        skip_bad: go on without the images that have faults, and record them in the manifest.
        processes: workers; by default one per core that this process may use.

    Returns:
        The prepared data, opened.

    Raises:
        DataError: the source has faults (all in one message), no image of a split is left, or `out` cannot be
            written.
    """
    source = open_source(config)
    faults, notes = list(source.faults), images_in_both(source)
    with staged_folder(out, is_prepared_file) as folder, workers(source, processes) as over_images:
        splits = {}
        for name in SPLITS:
            with ShardWriter(folder, name, config.shard_megabytes * 10**6) as writer:
                ids = source.image_ids(name)
                readings = over_images(read_image, name, ids)
                for reading in show_progress(readings, len(ids), f"prepare {name}"):
                    faults += reading.faults
                    notes += reading.notes
                    # Once the data is refused, the other images are only checked, for the report.
                    if reading.record is not None and (skip_bad or not faults):
                        writer.add(reading.record, reading.size)
            splits[name] = writer.summary()
        warn_of(notes)
        if faults and not skip_bad:
            raise DataError(
                f"{fault_report(faults)}\nMend the data, or go on without these images with --skip-bad."
            )
        _refuse_empty(splits, faults)
        write_manifest(folder, source.categories, splits, source.describe(), skipped_images(faults))
    _log_result(out, splits, len(skipped_images(faults)))
    return PreparedData(out)


def open_source(config: DataConfig) -> Source:
    """The source that the configuration names.

    Raises:
        DataError: it is missing, or something is wrong with it as a whole.
    """
    if config.source == "coco":
        assert config.coco is not None, "the configuration checks this"
        return CocoSource(config.coco)
    if config.source == "cityscapes":
        assert config.cityscapes is not None, "the configuration checks this"
        return CityscapesSource(config.cityscapes)
    return SyntheticSource(config.synthetic)


def images_in_both(source: Source) -> list[Fault]:
    """A note for every image_id that both splits have."""
    both = sorted(set(source.image_ids("train")) & set(source.image_ids("val")))
    return [Fault("in train and in val", "val", image_id, "the metrics may flatter") for image_id in both]


def _refuse_empty(splits: dict[SplitName, dict[str, Any]], faults: Sequence[Fault]) -> None:
    for name, summary in splits.items():
        if not summary["images"]:
            found = [fault for fault in faults if fault.split == name]
            why = fault_report(found) if found else "the source lists none"
            raise DataError(f"no image of the {name} split can be used: {why}")


def _log_result(out: Path, splits: dict[SplitName, dict[str, Any]], skipped: int) -> None:
    counts = ", ".join(f"{summary['images']} {name} images" for name, summary in splits.items())
    log.info("prepared %s: %s%s", out, counts, f", {skipped} left out" if skipped else "")
