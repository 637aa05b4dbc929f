"""Picture strips of several runs side by side, in a web page: image and truth once, then each prediction."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from upsnet.evaluation.page_rows import PageRow
from upsnet.evaluation.runs import RunGroup

MOST_IMAGES = 6
WIDEST = 280
"""Pixels of a picture."""
QUALITY = 78
"""Of the JPEGs."""
PANELS = ("image", "truth", "prediction")
"""Of the strips that `evaluate` draws."""


def side_by_side(rows: Sequence[PageRow]) -> str:
    """The pictures of every image that all runs have drawn; of each group, the run of its first seed."""
    folders = {row.name: folder for row in rows if (folder := _folder(row.group))}
    if not folders:
        return ""
    common = set.intersection(*({file.name for file in f.glob("*.png")} for f in folders.values()))
    shown = sorted(common)[:MOST_IMAGES]
    return "\n".join(_row(name, folders) for name in shown)


def _folder(group: RunGroup) -> Path | None:
    runs = sorted(group.runs, key=lambda run: run.seed or 0)
    return next((run.strips for run in runs if run.strips is not None), None)


def _row(name: str, folders: Mapping[str, Path]) -> str:
    pictures: dict[str, Image.Image] = {}
    for title, folder in folders.items():
        panels = _panels(folder / name)
        if not pictures:
            pictures |= {"image": panels[0], "truth": panels[1]}
        pictures[title] = panels[-1]
    figures = "".join(
        f'<figure><img src="{_data_uri(picture)}" alt="{escape(f"{title}, image {Path(name).stem}")}" '
        f'width="{picture.width}" height="{picture.height}" loading="lazy">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, picture in pictures.items()
    )
    return f'<h3>image {escape(Path(name).stem)}</h3>\n<div class="strip">{figures}</div>'


def _panels(file: Path) -> list[Image.Image]:
    """The panels of a strip without their titles, see `visualize.strip`, which joins panels of one size."""
    with Image.open(file) as opened:
        strip = opened.convert("RGB")
    height, count = _panel_height(strip.height), len(PANELS)
    gap = max(2, height // 64)
    width = (strip.width - (count - 1) * gap) // count
    bar = strip.height - height
    panels = []
    for number in range(count):
        left = number * (width + gap)
        panel = strip.crop((left, bar, left + width, strip.height))
        panel.thumbnail((WIDEST, WIDEST))
        panels.append(panel)
    return panels


def _panel_height(strip_height: int) -> int:
    """Height of the pictures below their titles, whose bars are a twelfth of it and at least 14 pixels."""
    return next(h for h in range(strip_height, 0, -1) if h + max(14, h // 12) <= strip_height)


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
