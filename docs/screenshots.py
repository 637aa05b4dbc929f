"""Takes the pictures of the README: the runs of an ablation in MLflow's UI, and the comparison's page.

    python docs/screenshots.py --experiment upsnet --report runs/compare/compare.html

The runs are those of MLFLOW_TRACKING_URI, or of ./mlflow.db; a server of its own is started for a database.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from browser import Browser, browser
from PIL import Image

from upsnet.tracking import mlflow_client, tracking_uri

KIND = "&workflowType=machine_learning"
"""Of the UI, whose other half is about language models."""
WAIT_SECONDS = 180
MOST_BYTES = 150_000
METRICS = ("PQ", "PQ_th", "PQ_st", "ms_per_image")
SWITCHES = ("panoptic_loss", "class_assignment", "semantic_loss", "roi_loss", "unknown", "merge")
FILTER = "params.oracle = 'off'"
"""Leaves out the networks that are told a part of the truth, and the parent."""
VIEW = "upsnet"
"""Key of the view of the run table that the experiment keeps: `?viewStateShareKey=upsnet`."""
CLOSED = (
    "mlflow.assistant.chat_panel.close",
    "mlflow.experiment_page.shared_view.dismiss",
    "mlflow_header.toggle_sidebar_button",
)
"""Buttons of the UI by their `data-component-id`, pressed where they are, so that the runs have the room."""
HIDDEN = ".modebar-container, [data-assistant-ui], button[data-component-id='mlflow.assistant.fab']"
"""What lies over the charts: the tools of plotly, and the round button of the assistant."""


def main() -> None:
    """Takes all pictures."""
    options = _options()
    with _server() as address, browser() as page:
        experiment, runs = _runs(options.experiment)
        shoot = _Camera(page, options.out)
        _keep_view(experiment)
        table = f"{address}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}{KIND}"
        page.size(1620, 720)
        page.open(table, runs[0].info.run_name)
        _tidy(page)
        shoot("mlflow_runs")
        page.size(1400, 985)
        page.open(f"{table}&compareRunsMode=CHART", "Parallel Coordinates")
        _tidy(page)
        shoot("mlflow_charts")
        page.size(1400, 640)
        page.open(_compare_address(address, experiment, runs), "Parallel Coordinates")
        _tidy(page)
        shoot("mlflow_compare")
        if options.report is not None:
            _shoot_report(page, shoot, options.report)


class _Camera:
    """Writes what a page shows as a small PNG."""

    def __init__(self, page: Browser, out: Path) -> None:
        self._page, self._out = page, out
        out.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str) -> None:
        data = small_png(self._page.picture())
        (self._out / f"{name}.png").write_bytes(data)
        print(f"{self._out / name}.png: {len(data) // 1000} kB")


def _tidy(page: Browser) -> None:
    """Leaves of MLflow's UI what shows the runs."""
    for button in CLOSED:
        page.run(f"document.querySelector('[data-component-id=\"{button}\"]')?.click()")
    style = f"const s = document.createElement('style'); s.textContent = {json.dumps(HIDDEN)}"
    page.run(f"(() => {{ {style} + '{{display: none !important}}'; document.head.append(s) }})()")
    page.settle()


def small_png(data: bytes) -> bytes:
    """The picture with as many colours of a palette as fit into `MOST_BYTES`, and smaller if none do."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    while True:
        for colors in (192, 96, 48):
            buffer = io.BytesIO()
            image.quantize(colors, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return buffer.getvalue()
        image = image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiment", default="upsnet", help="of MLflow")
    parser.add_argument("--report", type=Path, help="compare.html of 'upsnet compare'")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    return parser.parse_args()


@contextmanager
def _server() -> Iterator[str]:
    """Address of the MLflow server; one is started where the runs are in a database."""
    if tracking_uri().startswith("http"):
        yield tracking_uri().rstrip("/")
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri(), "--workers", "1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if requests.get(address, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise SystemExit("error: the MLflow server does not start")


def _runs(name: str) -> tuple[str, Sequence[Any]]:
    """Id of an experiment and its evaluated runs that `FILTER` leaves, the best first."""
    client = mlflow_client()
    experiment = client.get_experiment_by_name(name)
    found = (
        client.search_runs([experiment.experiment_id], FILTER, order_by=["metrics.PQ DESC"])
        if experiment
        else []
    )
    evaluated = [run for run in found if "PQ" in run.data.metrics]
    if not evaluated:
        raise SystemExit(
            f"error: MLflow has no evaluated runs in an experiment {name!r}; run 'make ablation'"
        )
    return experiment.experiment_id, evaluated


def _keep_view(experiment: str) -> None:
    """Stores, as the UI's own button "share" does, the columns, the order, the filter and the charts."""
    shown = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{name}`" for name in SWITCHES]
    time = {"xaxis": {"key": "ms_per_image", "type": "METRIC"}, "yaxis": {"key": "PQ", "type": "METRIC"}}
    pq, *parts = ({"type": "BAR", "metricKey": name, "runsCountToCompare": 20} for name in METRICS[:3])
    charts: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": list(SWITCHES),
            "selectedMetrics": ["PQ"],
            "showAllRuns": True,
        },
        {"type": "SCATTER", **time, "runsCountToCompare": 100},
        pq,
        {"type": "LINE", "metricKey": "loss/total", "xAxisKey": "step"},
        *parts,
    ]
    sections = [("switches", "Which switch helps", 1), ("figures", "Figures of every run", 3)]
    common = {"deleted": False, "isGenerated": False}
    view = {
        "searchFilter": FILTER,
        "orderByKey": "metrics.`PQ`",
        "orderByAsc": False,
        "selectedColumns": shown,
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": True,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunCharts": [
            {**common, **chart, "uuid": f"{VIEW}{n}", "metricSectionId": sections[n > 0][0]}
            for n, chart in enumerate(charts)
        ],
        "compareRunSections": [
            {"uuid": key, "name": name, "columns": columns, "cardHeight": 300, "display": True, **common}
            for key, name, columns in sections
        ],
    }
    mlflow_client().set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))


def _compare_address(address: str, experiment: str, runs: Sequence[Any]) -> str:
    """The compare view of one run of every system, that of its first seed."""
    chosen: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: str(run.data.tags.get("seed"))):
        chosen.setdefault(run.data.tags.get("system", run.info.run_name), run.info.run_id)
    ids, experiments = json.dumps(list(chosen.values())), json.dumps([experiment])
    return f"{address}/#/compare-runs?runs={quote(ids)}&experiments={quote(experiments)}{KIND}"


def _shoot_report(page: Browser, shoot: _Camera, report: Path) -> None:
    """The page's first view, its charts, and its pictures."""
    page.size(1280, 1250)
    page.open(report.resolve().as_uri(), "Runs compared")
    shoot("report")
    page.size(1280, 900)
    for name in ("classes", "pictures"):
        if page.run(f"document.getElementById('{name}') !== null"):
            page.run(f"document.getElementById('{name}').scrollIntoView()")
            page.settle()
            shoot(f"report_{name}")


if __name__ == "__main__":
    main()
