"""The upper part of the comparison's web page: all runs in a table, charts of them, and their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from upsnet.evaluation.compare import Comparison
from upsnet.evaluation.compare_output import count_runs, format_spread
from upsnet.evaluation.page_charts import class_charts, scatter_chart
from upsnet.evaluation.page_rows import PageRow, page_rows
from upsnet.evaluation.page_strips import side_by_side
from upsnet.evaluation.paper import TIMES

FIGURES = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP", "total")
HEADS = {"total": "ms per image"}
TOLD = "Grey: the network was told a part of the truth."

STYLE = """
nav { margin: 1rem 0 0; } nav a { margin-right: 1.25rem; }
a { color: inherit; }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
td.best { font-weight: 700; color: var(--good); } tr.told > * { color: var(--soft); }
figure { margin: 0; }
figcaption { font-size: .8125rem; font-weight: 600; margin-bottom: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 1.5rem 1.75rem; }
details { margin-top: 1.25rem; } summary { cursor: pointer; margin-bottom: 1rem; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--text); }
svg .label, svg .up, svg .number { text-anchor: end; } svg .tick, svg .axis { text-anchor: middle; }
svg .tick, svg .axis, svg .none, svg .faint { fill: var(--soft); }
svg .bar { fill: var(--bar); } svg .best { fill: var(--good); } svg .told { fill: var(--line); }
svg .number { fill: var(--text); font-variant-numeric: tabular-nums; }
svg .number.best { fill: var(--good); font-weight: 700; }
svg path { fill: none; } svg .range { stroke: var(--text); stroke-width: 1.25; }
svg .reference { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .grid { stroke: var(--line); } svg .leader { stroke: var(--soft); stroke-width: .75; opacity: .6; }
svg .point circle { fill: var(--bar); stroke: var(--back); stroke-width: 1.5; }
svg .name { font-size: 12px; } .scatter { max-width: 60rem; font-size: 12px; }
.strip { display: flex; flex-wrap: wrap; gap: .75rem; }
.strip img { display: block; max-width: 100%; height: auto; } .strip figcaption { font-weight: 400; }
""".strip()


def overview(comparison: Comparison) -> str:
    """The sections before the paper's tables."""
    rows = page_rows(comparison)
    sections = [
        ("runs", "All runs", _table(rows)),
        ("time", "PQ against run time", _scatters(rows)),
        ("classes", "PQ of every class", _charts(rows)),
        ("pictures", "Pictures side by side", _pictures(rows)),
    ]
    made = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in [*made, ("paper", "The paper", "")])
    return "\n".join(
        [
            f"<nav>{links}</nav>",
            *(f'<h2 id="{key}">{title}</h2>\n{content}' for key, title, content in made),
            '<h2 id="paper">Beside the paper</h2>',
        ]
    )


def _table(rows: Sequence[PageRow]) -> str:
    """Every group with its figures, the best of a column in colour where all were measured alike."""
    rivals = [row for row in rows if not row.told]
    alike = len({(row.group.preset, row.group.images) for row in rows}) == 1 and len(rivals) > 1
    shown = [figure for figure in FIGURES if any(row.group.spread(figure) for row in rows)]
    best = {figure: _best(rivals, figure) for figure in shown if figure not in TIMES} if alike else {}
    heads = "".join(f'<th scope="col">{HEADS.get(figure, figure)}</th>' for figure in shown)
    lines = "\n".join(_line(row, shown, best) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr><th class="word" scope="col">run</th>'
        f'<th class="word" scope="col"></th>{heads}</tr></thead><tbody>\n{lines}\n</tbody></table></div>\n'
        f'<p class="soft">{escape(_notes(rows, bool(best)))}</p>'
    )


def _notes(rows: Sequence[PageRow], with_best: bool) -> str:
    data = sorted({f"{row.group.preset}, {row.group.images} images" for row in rows})
    numbered = any(row.name[:1].isdigit() for row in rows)
    notes = [
        f"Measured on {'; '.join(data)}. Percent; ± is the standard deviation over the seeds.",
        "Numbered rows: the switches of the paper's Table 6, each row with those above it."
        if numbered
        else "",
        "Green: the best of a column; run times vary too much for that." if with_best else "",
        TOLD if any(row.told for row in rows) else "",
    ]
    return " ".join(note for note in notes if note)


def _line(row: PageRow, figures: Iterable[str], best: Mapping[str, str]) -> str:
    cells = []
    for figure in figures:
        spread = row.group.spread(figure)
        leads = spread and not row.told and best.get(figure) == f"{spread.mean:.1f}"
        mark = ' class="best"' if leads else ""
        cells.append(f"<td{mark}>{escape(format_spread(figure, spread))}</td>")
    variant = f' title="{escape(row.group.name)}"'
    return (
        f'<tr class="first{" told" if row.told else ""}"><th class="word" scope="row"{variant}>'
        f'{escape(row.name)}</th><td class="word kind">{escape(count_runs(row.group))}</td>'
        f"{''.join(cells)}</tr>"
    )


def _best(rows: Sequence[PageRow], figure: str) -> str:
    """The best mean of a column, to one decimal; empty where nobody has one."""
    means = [spread.mean for row in rows if (spread := row.group.spread(figure))]
    return f"{max(means):.1f}" if means else ""


def _scatters(rows: Sequence[PageRow]) -> str:
    """A chart per data and device, since the times of two devices do not compare."""
    parts: dict[str, list[PageRow]] = {}
    for row in (row for row in rows if not row.told):
        device = row.group.runs[0].device or "an unknown device"
        parts.setdefault(f"{row.group.preset}, {row.group.images} images, {device}", []).append(row)
    charts = [
        f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>"
        for title, members in parts.items()
        if (chart := scatter_chart(members, f"PQ against run time: {title}"))
    ]
    note = "Up and left is better. Lines through a point: its range over the seeds."
    if any(row.told for row in rows):
        note += " Without the runs that were told a part of the truth."
    return "\n".join([*charts, f'<p class="soft">{note}</p>']) if charts else ""


def _charts(rows: Sequence[PageRow]) -> str:
    charts = class_charts(rows)
    if not charts:
        return ""
    note = (
        "Percent. Classes in which the runs differ most come first. Green: the best run. Dashed line: "
        f"{rows[0].name}. Thin line on a bar: the range over the seeds."
    )
    note += f" {TOLD}" if any(row.told for row in rows) else ""
    return f'<p class="soft">{escape(note)}</p>\n{charts}'


def _pictures(rows: Sequence[PageRow]) -> str:
    pictures = side_by_side(rows)
    note = "Predictions of the first seed of every run. Black is void; every thing has a colour of its own."
    return f'<p class="soft">{note}</p>\n{pictures}' if pictures else ""
