"""The table of the benchmark on a terminal, in Markdown and in JSON, the paper's figures beside ours."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from upsnet.evaluation.benchmark.cases import COMBINED_OWN_SIZE, OWN_SIZES, UPSNET
from upsnet.evaluation.benchmark.measure import Measurement, Timing
from upsnet.evaluation.paper import paper_rows
from upsnet.structures import Size

TABLE = 5
COLUMNS = (
    *("size", "instances", "system", "GFLOPs", "network ms", "post-processing ms", "sum ms", "peak MB"),
    *("x UPSNet", "paper ms", "x UPSNet (paper)"),
)
TEXT_COLUMNS = 3
EMPTY = "-"


def environment(device: torch.device) -> dict[str, Any]:
    """What the times depend on besides the program."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "memory": "what torch held on the GPU" if cuda else "that of the process, libraries included",
    }


def to_json(rows: Sequence[Measurement], where: dict[str, Any], with_paper: bool) -> dict[str, Any]:
    """All figures; milliseconds, 2**20 bytes.

    Args:
        rows: the sizes, and the systems at a size, in the table's order.
        where: the `environment`.
        with_paper: put the paper's figures beside ours.
    """
    sizes = [row.size for row in rows]
    entries = []
    for row in sorted(rows, key=lambda row: (sizes.index(row.size), row.instances)):
        upsnet = next(r for r in rows if (r.size, r.instances, r.system) == (row.size, row.instances, UPSNET))
        paper = paper_times(row.size) if with_paper else {}
        theirs = paper.get(row.system.rstrip("*"))
        entries.append(
            {
                **asdict(row),
                "sum": _sum(row),
                "ratio": _sum(row) / _sum(upsnet),
                "paper_milliseconds": theirs,
                "paper_ratio": theirs / paper[UPSNET] if theirs else None,
            }
        )
    return {**where, "rows": entries}


def paper_times(size: Size) -> dict[str, float]:
    """System -> milliseconds of Table 5, post-processing included; empty for a size that it lacks."""
    split = f"{size[0]}x{size[1]}"
    return {row.row: row.figures["total"] for row in paper_rows() if (row.table, row.split) == (TABLE, split)}


def print_table(figures: dict[str, Any], console: Console) -> None:
    """Prints what `to_json` gives."""
    console.print(Text(_title(figures), style="bold"))
    table = Table()
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < TEXT_COLUMNS else "right")
    for entry in figures["rows"]:
        table.add_row(*map(Text, _cells(entry)), end_section=entry == _last_of_size(figures, entry))
    console.print(table)
    for note in _notes(figures):
        console.print(Text(note))


def markdown(figures: dict[str, Any]) -> str:
    """The same in Markdown."""
    rule = ["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)
    lines = [_markdown_row(cells) for cells in (COLUMNS, rule, *map(_cells, figures["rows"]))]
    notes = [f"- {note.replace('*', chr(92) + '*')}" for note in _notes(figures)]
    return "\n".join([f"# {_title(figures)}", "", *lines, "", *notes]) + "\n"


def _title(figures: dict[str, Any]) -> str:
    where = f"{figures['device']}, {figures['threads']} threads, torch {figures['torch']}"
    return f"UPSNet and MR-CNN-PSP on {where}"


def _notes(figures: dict[str, Any]) -> list[str]:
    rows = figures["rows"]
    runs = sorted({entry["runs"] for entry in rows})
    detections = sorted({entry["detections"] for entry in rows})
    notes = [
        f"Mean ± standard deviation of {_alternatives(runs)} runs on one image, after a warm-up.",
        f"Random weights: the mask head sees the best {_alternatives(detections)} boxes, whatever "
        "their score, and post-processing made instances.",
        f"Peak memory is {figures['memory']}.",
    ]
    if any(entry["paper_milliseconds"] for entry in rows):
        notes.append("Paper: Table 5, GTX 1080 Ti, 100 runs, post-processing included.")
    if any(entry["system"] == COMBINED_OWN_SIZE for entry in rows):
        sizes = ", ".join(f"{own[0]}x{own[1]}" for own in OWN_SIZES.values())
        notes.append(
            f"{COMBINED_OWN_SIZE}: the PSPNet and the merge at the size of a COCO image itself, {sizes}; "
            "so the paper measured it (4.4)."
        )
    return notes


def _alternatives(values: Sequence[int]) -> str:
    return " or ".join(map(str, values))


def _cells(entry: dict[str, Any]) -> list[str]:
    theirs = entry["paper_milliseconds"]
    return [
        f"{entry['size'][0]}x{entry['size'][1]}",
        str(entry["instances"]),
        entry["system"],
        f"{entry['gflops']:.0f}" if entry["gflops"] >= 100 else f"{entry['gflops']:.1f}",
        _time(Timing(**entry["network"])),
        _time(Timing(**entry["postprocessing"])),
        _milliseconds(entry["sum"]),
        f"{entry['peak_megabytes']:.0f}",
        f"{entry['ratio']:.2f}",
        f"{theirs:.0f}" if theirs else EMPTY,
        f"{entry['paper_ratio']:.2f}" if theirs else EMPTY,
    ]


def _sum(row: Measurement) -> float:
    return row.network.mean + row.postprocessing.mean


def _time(timing: Timing) -> str:
    deviation = "" if timing.deviation is None else f" ± {_milliseconds(timing.deviation)}"
    return _milliseconds(timing.mean) + deviation


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _last_of_size(figures: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    last: dict[str, Any] = [e for e in figures["rows"] if e["size"] == entry["size"]][-1]
    return last


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("*", r"\*") for cell in cells) + " |"


def _processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
