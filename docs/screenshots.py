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

WAIT_SECONDS = 180
MOST_BYTES = 150_000
COLUMNS = ("metrics.`PQ`", "metrics.`PQ_th`", "metrics.`PQ_st`", "metrics.`mIoU`", "metrics.`ms_per_image`")
SWITCHES = ("tags.`system`", "params.`network`", "params.`merge`", "params.`unknown`", "tags.`seed`")
VIEW = "upsnet"
"""Key of the view of the run table that the experiment keeps: `?viewStateShareKey=upsnet`."""
COMPARED = 6
"""Runs in the compare view."""


def main() -> None:
    """Takes all pictures."""
    options = _options()
    with _server() as address, browser() as page:
        experiment, runs = _runs(options.experiment)
        shoot = _Camera(page, options.out)
        _keep_view(experiment)
        base = f"{address}/#/experiments/{experiment}"
        page.size(1500, 760)
        page.open(f"{base}/runs?viewStateShareKey={VIEW}", runs[0].info.run_name)
        shoot("mlflow_runs")
        page.size(1500, 1000)
        page.open(f"{base}/runs?viewStateShareKey={VIEW}&compareRunsMode=CHART", "PQ")
        shoot("mlflow_charts")
        page.open(_compare_address(address, experiment, runs), "Parallel Coordinates")
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
    """Id of an experiment and its evaluated runs, the best first."""
    client = mlflow_client()
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], order_by=["metrics.PQ DESC"]) if experiment else []
    evaluated = [run for run in runs if "PQ" in run.data.metrics]
    if not evaluated:
        raise SystemExit(f"error: MLflow has no evaluated runs in an experiment {name!r}; run 'make ablation'")
    return experiment.experiment_id, evaluated


def _keep_view(experiment: str) -> None:
    """Stores, as the UI's own button "share" does, which columns the run table has and how it is sorted."""
    view = {
        "orderByKey": "metrics.`PQ`",
        "orderByAsc": False,
        "selectedColumns": [*COLUMNS, *SWITCHES],
        "viewMaximized": True,
        "hideEmptyCharts": True,
    }
    mlflow_client().set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))


def _compare_address(address: str, experiment: str, runs: Sequence[Any]) -> str:
    """The compare view of the best run of every system."""
    chosen: dict[str, str] = {}
    for run in runs:
        chosen.setdefault(run.data.tags.get("system", run.info.run_name), run.info.run_id)
    ids = json.dumps(list(chosen.values())[:COMPARED])
    return f"{address}/#/compare-runs?runs={quote(ids)}&experiments={quote(json.dumps([experiment]))}"


def _shoot_report(page: Browser, shoot: _Camera, report: Path) -> None:
    """The page's first view, its charts in the dark, and its pictures."""
    page.size(1280, 1150)
    page.open(report.resolve().as_uri(), "Runs compared")
    shoot("report")
    page.size(1280, 900, dark=True)
    for name in ("classes", "pictures"):
        if page.run(f"document.getElementById('{name}') !== null"):
            page.run(f"document.getElementById('{name}').scrollIntoView()")
            page.settle()
            shoot(f"report_{name}")


if __name__ == "__main__":
    main()
