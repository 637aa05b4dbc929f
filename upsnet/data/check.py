"""Says within seconds what is wrong with a data set, without writing anything.

The annotations, the files' presence and their headers are looked at for every image; a sample, evenly spread,
is read as `prepare` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from upsnet.config import DataConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.faults import Fault, fault_report, listed
from upsnet.data.parallel import OverImages, read_image, workers
from upsnet.data.prepare import images_in_both, open_source
from upsnet.data.shards import SPLITS, SplitName
from upsnet.data.sources import Glance, GlancingSource, Reading, Source
from upsnet.progress import show_progress
from upsnet.structures import Size

T = TypeVar("T")

SAMPLE = 100
"""Images per split that are read in full."""

TOGETHER = 64
"""Glances that a worker takes at once."""


@dataclass
class SplitFindings:
    """What was seen of one split.

    Attributes:
        listed: images that its annotations list, those with faults included.
        glanced: images whose annotation and headers were looked at.
        read: images read in full.
        sizes: (height, width) of the images seen.
        instances: per image seen the number of things that are no crowd.
        crowds: crowd regions in them.
        segments: number of segments by class_id.
    """

    listed: int = 0
    glanced: int = 0
    read: int = 0
    sizes: list[Size] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)
    crowds: int = 0
    segments: Counter[int] = field(default_factory=Counter)


@dataclass
class CheckReport:
    """What `check` found; the data set is good as far as that was looked at when there are no `faults`."""

    table: CategoryTable
    splits: dict[SplitName, SplitFindings] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that `prepare` would refuse, with what to do about it; empty if there is nothing."""
        empty = [name for name in SPLITS if not self.splits[name].sizes]
        problems = [fault_report(self.faults)] if self.faults else []
        return problems + [
            f"no image of the {name} split can be used; both splits need at least one" for name in empty
        ]


def check(config: DataConfig, *, sample: int = SAMPLE, processes: int | None = None) -> CheckReport:
    """Looks at a source as `prepare` would, but at most of it only from outside.

    Args:
        config: which source, and where it lies.
        sample: images per split that are read in full.
        processes: workers; by default one per core that this process may use.

    Raises:
        DataError: something is wrong with the source as a whole; nothing more can be said then.
    """
    source = open_source(config)
    report = CheckReport(source.categories, faults=list(source.faults), notes=images_in_both(source))
    with workers(source, processes) as over_images:
        for name in SPLITS:
            report.splits[name] = SplitFindings()
            _check_split(source, name, report, sample, over_images)
    return report


def print_check(report: CheckReport, console: Console) -> None:
    """Prints what was found: counts, sizes, and what is odd but no fault."""
    table = report.table
    console.print(f"{table.num_stuff} stuff + {table.num_things} thing classes")
    printed = Table("", *SPLITS)
    for column in printed.columns[1:]:
        column.justify = "right"
    for title, *cells in zip(_TITLES, *(_cells(report.splits[name], table) for name in SPLITS), strict=True):
        printed.add_row(title, *cells)
    console.print(printed)
    for line in _remarks(report):
        console.print(Text(line))


def _check_split(
    source: Source, name: SplitName, report: CheckReport, sample: int, over_images: OverImages
) -> None:
    findings, ids = report.splits[name], source.image_ids(name)
    findings.listed = len(ids) + len({fault.image_id for fault in report.faults if fault.split == name})
    sampled = evenly_spread(ids, sample)
    faults: list[Fault] = []
    if isinstance(source, GlancingSource):
        glances = over_images(_glance, name, ids, TOGETHER)
        for glance in show_progress(glances, len(ids), f"look over {name}"):
            faults += glance.faults
            _add_glance(glance, report.table, findings)
    read = set(sampled)
    faults = [fault for fault in faults if fault.image_id not in read]  # reading says more of these
    readings = over_images(read_image, name, sampled)
    for reading in show_progress(readings, len(sampled), f"read a sample of {name}"):
        faults += reading.faults
        report.notes += reading.notes
        _add_reading(reading, report.table, findings)
    report.faults += sorted(faults, key=lambda fault: fault.image_id)


def evenly_spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, from the first to the last, at equal distances."""
    if len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / max(count - 1, 1))] for place in range(count)]


def _glance(source: Source, split: SplitName, image_id: int) -> Glance:
    assert isinstance(source, GlancingSource), "checked before the workers are asked"
    return source.glance(split, image_id)


def _add_glance(glance: Glance, table: CategoryTable, findings: SplitFindings) -> None:
    findings.glanced += 1
    if not glance.faults and glance.size is not None:
        _count(glance.size, glance.segments, table, findings)


def _add_reading(reading: Reading, table: CategoryTable, findings: SplitFindings) -> None:
    findings.read += 1
    if reading.record is not None and not findings.glanced:
        segments = [(s.category_id, s.iscrowd) for s in reading.record.segments]
        _count(reading.size, segments, table, findings)


def _count(
    size: Size, segments: Sequence[tuple[int, bool]], table: CategoryTable, findings: SplitFindings
) -> None:
    findings.sizes.append(size)
    class_ids = [(table.class_id_of[category_id], iscrowd) for category_id, iscrowd in segments]
    findings.instances.append(sum(c >= table.num_stuff and not iscrowd for c, iscrowd in class_ids))
    findings.crowds += sum(iscrowd for _, iscrowd in class_ids)
    findings.segments.update(class_id for class_id, _ in class_ids)


_TITLES = (
    "images listed",
    "looked over",
    "read in full",
    "instances per image, mean",
    "instances per image, most",
    "crowd regions",
    "height: least, median, most",
    "width: least, median, most",
    "categories without a segment",
)


def _cells(findings: SplitFindings, table: CategoryTable) -> list[str]:
    instances = findings.instances
    return [
        f"{findings.listed:,}",
        f"{findings.glanced:,}",
        f"{findings.read:,}",
        f"{sum(instances) / len(instances):.1f}" if instances else "-",
        str(max(instances, default="-")),
        f"{findings.crowds:,}",
        _spread([height for height, _ in findings.sizes]),
        _spread([width for _, width in findings.sizes]),
        str(table.num_classes - len(findings.segments)),
    ]


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)}, {median_low(values)}, {max(values)}" if values else "-"


def _remarks(report: CheckReport) -> list[str]:
    """What is no fault but worth knowing."""
    train, val = (set(report.splits[name].segments) for name in SPLITS)
    names = report.table.names
    parts = (
        ("categories without any segment", set(range(len(names))) - train - val),
        ("categories in val but not in train, which cannot be learnt", val - train),
    )
    remarks = [f"{title}: {listed([names[c] for c in sorted(ids)], 20)}" for title, ids in parts if ids]
    for kind, count in Counter(note.kind for note in report.notes).items():
        example = next(note for note in report.notes if note.kind == kind)
        remarks.append(f"{kind}: {count} images, for example {example.split} image {example.image_id}")
    return remarks
