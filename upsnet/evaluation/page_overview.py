"""The upper part of the comparison's web page: all runs in a table, charts of them, and their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from upsnet.evaluation.compare import Comparison
from upsnet.evaluation.compare_output import count_runs, format_spread
from upsnet.evaluation.page_charts import class_charts, scatter_chart
from upsnet.evaluation.page_strips import side_by_side
from upsnet.evaluation.paper import TIMES
from upsnet.evaluation.runs import RunGroup

FIGURES = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP", "network", "total")
HEADS = {"network": "network ms", "total": "ms per image"}
PLAIN = "upsnet"
"""Name of the network without a variant."""

STYLE = """
nav { margin: 1rem 0 0; } nav a { margin-right: 1.25rem; }
a { color: inherit; }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
td.best { font-weight: 700; color: var(--good); }
figure { margin: 0; }
figcaption { font-size: .8125rem; font-weight: 600; margin-bottom: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1.5rem 1.75rem; }
details { margin-top: 1.25rem; } summary { cursor: pointer; margin-bottom: 1rem; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--text); }
svg .label, svg .up { text-anchor: end; } svg .tick, svg .axis { text-anchor: middle; }
svg .up { text-anchor: end; } svg .tick, svg .axis, svg .none { fill: var(--soft); }
svg .bar { fill: var(--bar); } svg .best { fill: var(--good); }
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
    groups = all_groups(comparison)
    names = short_names(groups)
    sections = [
        ("runs", "All runs", _table(groups, names)),
        ("time", "PQ against run time", _scatters(groups, names)),
        ("classes", "PQ of every class", _charts(groups, names)),
        ("pictures", "Pictures side by side", _pictures(groups, names)),
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


def all_groups(comparison: Comparison) -> list[RunGroup]:
    """Every group once: those of the tables in their order, the network without a variant first."""
    rows = (row.group for layout in comparison.layouts for row in layout.rows if row.group)
    found = {id(group): group for group in (*rows, *comparison.others)}
    return sorted(found.values(), key=lambda group: (group.preset, group.images, group.system != ""))


def short_names(groups: Sequence[RunGroup]) -> dict[int, str]:
    """A name for every group by its `id()`: what tells it from the others."""
    several = len({group.preset for group in groups}) > 1
    sizes = len({(group.preset, group.images) for group in groups}) > len({g.preset for g in groups})
    return {
        id(group): " ".join(
            part
            for part in (
                group.preset if several else "",
                group.system or PLAIN,
                f"({group.images} images)" if sizes else "",
            )
            if part
        )
        for group in groups
    }


def _table(groups: Sequence[RunGroup], names: Mapping[int, str]) -> str:
    """Every group with its figures, the best of a column in colour where all were measured alike."""
    alike = len({(group.preset, group.images) for group in groups}) == 1 and len(groups) > 1
    shown = [figure for figure in FIGURES if any(group.spread(figure) for group in groups)]
    best = {figure: _best(groups, figure) for figure in shown} if alike else {}
    heads = "".join(f'<th scope="col">{HEADS.get(figure, figure)}</th>' for figure in shown)
    rows = "\n".join(_row(group, names[id(group)], shown, best) for group in groups)
    data = {f"{group.preset}, {group.images} images" for group in groups}
    note = f"Measured on {'; '.join(sorted(data))}. Percent; ± over the seeds. Best of a column in green."
    return (
        f'<div class="scroll"><table><thead><tr><th class="word" scope="col">run</th>'
        f'<th class="word" scope="col"></th>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>\n'
        f'<p class="soft">{escape(note if best else note.partition(" Best")[0])}</p>'
    )


def _row(group: RunGroup, name: str, figures: Iterable[str], best: Mapping[str, str]) -> str:
    cells = []
    for figure in figures:
        spread = group.spread(figure)
        text = format_spread(figure, spread)
        mark = ' class="best"' if spread and best.get(figure) == f"{spread.mean:.1f}" else ""
        cells.append(f"<td{mark}>{escape(text)}</td>")
    return (
        f'<tr class="first"><th class="word" scope="row">{escape(name)}</th>'
        f'<td class="word kind">{escape(count_runs(group))}</td>{"".join(cells)}</tr>'
    )


def _best(groups: Sequence[RunGroup], figure: str) -> str:
    """The best mean of a column, to one decimal."""
    means = [spread.mean for group in groups if (spread := group.spread(figure))]
    return f"{min(means) if figure in TIMES else max(means):.1f}"


def _scatters(groups: Sequence[RunGroup], names: Mapping[int, str]) -> str:
    """A chart per data and device, since the times of two devices do not compare."""
    parts: dict[tuple[str, int, str], list[RunGroup]] = {}
    for group in groups:
        parts.setdefault((group.preset, group.images, group.runs[0].device), []).append(group)
    charts = []
    for (preset, images, device), members in parts.items():
        title = f"PQ against run time, {preset}, {images} images, measured on {device or 'an unknown device'}"
        chart = scatter_chart(members, names, title)
        if chart:
            charts.append(f'<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>')
    note = "Up and left is better. Lines through a point: its range over the seeds."
    return "\n".join([*charts, f'<p class="soft">{note}</p>']) if charts else ""


def _charts(groups: Sequence[RunGroup], names: Mapping[int, str]) -> str:
    charts = class_charts(groups, names)
    if not charts:
        return ""
    note = (
        "Classes in which the runs differ most come first. Green: the best run. Dashed line: "
        f"{names[id(groups[0])]}. Black line: the range over the seeds."
    )
    return f'<p class="soft">{escape(note)}</p>\n{charts}'


def _pictures(groups: Sequence[RunGroup], names: Mapping[int, str]) -> str:
    pictures = side_by_side(groups, names)
    note = "Predictions of the first seed of every run. Black is void."
    return f'<p class="soft">{note}</p>\n{pictures}' if pictures else ""
