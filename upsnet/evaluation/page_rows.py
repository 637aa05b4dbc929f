"""The rows of the comparison's web page: every group of runs once, by a name that a stranger understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from upsnet.evaluation.compare import Comparison, LayoutRow
from upsnet.evaluation.runs import RunGroup

TOLD = "gt_"
"""How the switches begin that tell a network a part of the truth (Table 6, rows 7 to 9)."""


@dataclass(frozen=True)
class PageRow:
    """A group of runs as the page shows it.

    Attributes:
        name: the paper's for it, else its system; with preset and images where these differ.
        told: the network was told a part of the truth, so that it is no rival of the others.
    """

    group: RunGroup
    name: str
    told: bool


def page_rows(comparison: Comparison) -> list[PageRow]:
    """UPSNet first, the others in the order of the tables, last those that were told a part of the truth."""
    found: dict[int, tuple[RunGroup, list[LayoutRow]]] = {}
    for row in (row for layout in comparison.layouts for row in layout.rows):
        if row.group is not None:
            found.setdefault(id(row.group), (row.group, []))[1].append(row)
    every = [*found.values(), *((group, []) for group in comparison.others)]
    several = len({group.preset for group, _ in every}) > 1
    sizes = len({(group.preset, group.images) for group, _ in every}) > len({g.preset for g, _ in every})
    rows = [PageRow(group, _name(group, lines, several, sizes), _is_told(lines)) for group, lines in every]
    return sorted(rows, key=_place)


def _name(group: RunGroup, lines: Sequence[LayoutRow], with_preset: bool, with_images: bool) -> str:
    labels = [line.paper.label for line in lines]
    name = min(labels, key=len) if labels else group.system or "UPSNet"
    preset = f"{group.preset} " if with_preset else ""
    return f"{preset}{name}{f' ({group.images} images)' if with_images else ''}"


def _is_told(lines: Sequence[LayoutRow]) -> bool:
    return any(switch.startswith(TOLD) for line in lines for switch in line.paper.switches)


def _place(row: PageRow) -> tuple[str, int, bool, bool]:
    return row.group.preset, row.group.images, row.told, row.group.system != ""
