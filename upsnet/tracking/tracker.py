"""Takes the figures, texts, tables and pictures of one run: JSON lines always, MLflow when configured.

`<out>/log.jsonl` gets one object per call of `log_metrics`: `time` (UTC, ISO 8601), `step`, and the metrics
by name beside them. MLflow is a guest: when it is missing, unreachable or refuses a call, one warning is
logged and the work goes on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upsnet import distributed
from upsnet.config import TrackingConfig
from upsnet.tracking.connection import mlflow_client, tracking_uri
from upsnet.tracking.names import first_line, flatten, legal_name
from upsnet.tracking.run_file import read_run_id, write_run_id
from upsnet.tracking.runs import log_metrics, log_params, new_run, set_tags, take_up

logger = logging.getLogger(__name__)

LOG_NAME = "log.jsonl"
PAUSE_SECONDS = 60.0
"""How long MLflow is left alone after a call that failed."""


class Tracker:
    """Takes the figures, texts, tables and pictures of one run.

    Args:
        out: folder of `log.jsonl`; None drops everything, as on every rank but the first.
        open_run: opens the MLflow run, a new one if its argument says so; None leaves MLflow out.
    """

    def __init__(
        self, out: Path | None, open_run: Callable[[bool], tuple[Any, str] | None] | None = None
    ) -> None:
        self._log = out / LOG_NAME if out else None
        self._open_run = open_run
        self._run = open_run(False) if open_run else None
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._silent_until = 0.0
        self._warned: set[str] = set()

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run, None without one."""
        return self._run[1] if self._run else None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs settings; nested mappings become dotted names."""
        if self._log is None:
            return
        flat = {legal_name(key): str(value)[:6000] for key, value in flatten(params, "")}
        self._params.update(flat)
        self._send_params(flat)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs figures at an iteration. A figure that is not finite is null in the JSON line."""
        if self._log is None:
            return
        values = {legal_name(name): float(value) for name, value in metrics.items()}
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": step}
        line.update({name: value if math.isfinite(value) else None for name, value in values.items()})
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self._send_metrics(values, step)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags, which may change later, unlike params."""
        self._tags.update({legal_name(name): str(value)[:5000] for name, value in tags.items()})
        self._send("set_tags", lambda client, run_id: set_tags(client, run_id, self._tags))

    def log_text(self, text: str, name: str) -> None:
        """Stores a text as the artifact `name`, such as `config.yaml`."""
        self._texts[name] = text
        self._send("log_text", lambda client, run_id: client.log_text(run_id, text, name))

    def log_table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Stores rows with the same keys as a table that MLflow displays; `name` ends with `.json`.

        A table of the same name is replaced; MLflow's own `log_table` would append to it.
        """
        columns = list(rows[0]) if rows else []
        table = {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]}
        self._send("log_table", lambda client, run_id: client.log_dict(run_id, table, name))
        self.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])})

    def log_image(self, path: Path, name: str) -> None:
        """Stores a picture file as the artifact `name`, such as `strips/17.png`."""
        if self._run is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(path, Path(folder) / Path(name).name)
            self._send_file(copy, str(Path(name).parent))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Stores a file, under its own name, in a folder of the run's artifacts."""
        self._send_file(path, folder)

    def start_over(self) -> None:
        """Puts the log of another configuration aside (`log-previous.jsonl`) and begins a new MLflow run.

        The params, tags and texts that this tracker was given go to the new run as well.
        """
        if self._log is not None and self._log.exists():
            os.replace(self._log, self._log.with_name("log-previous.jsonl"))
        if self._run is None or self._open_run is None:
            return
        self.close()
        self._run = self._open_run(True)
        self._send_params(self._params)
        self.set_tags({})
        for name, text in self._texts.items():
            self.log_text(text, name)

    def close(self, status: str = "FINISHED") -> None:
        """Ends the MLflow run: `FINISHED`, `FAILED` or `KILLED`. A later process may take it up again."""
        self._send("set_terminated", lambda client, run_id: client.set_terminated(run_id, status))
        self._run = None

    def _send_params(self, params: Mapping[str, str]) -> None:
        self._send("log_params", lambda client, run_id: log_params(client, run_id, params))

    def _send_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._send("log_metrics", lambda client, run_id: log_metrics(client, run_id, values, step))

    def _send_file(self, path: Path, folder: str) -> None:
        target = folder if folder not in ("", ".") else None
        self._send("log_artifact", lambda client, run_id: client.log_artifact(run_id, str(path), target))

    def _send(self, what: str, call: Callable[[Any, str], None]) -> None:
        """Makes one call to MLflow; a failure is said once per kind of call and never stops the caller."""
        if self._run is None or time.monotonic() < self._silent_until:
            return
        try:
            call(*self._run)
        except Exception as error:
            if getattr(error, "error_code", "") != "INVALID_PARAMETER_VALUE":
                self._silent_until = time.monotonic() + PAUSE_SECONDS
            if what not in self._warned:
                self._warned.add(what)
                logger.warning("MLflow: %s failed, going on without: %s", what, first_line(error))


def open_tracker(config: TrackingConfig, out: Path, *, run_file: Path, run_name: str) -> Tracker:
    """Opens the tracker of this process; every rank but the first gets one that drops everything.

    Args:
        config: what to log to.
        out: folder of `log.jsonl`.
        run_file: JSON file with the id of the MLflow run, so that a later process goes on with the same run.
            `MLFLOW_RUN_ID` goes before it.
        run_name: name of a new run.
    """
    if not distributed.is_main():
        return Tracker(None)
    if not config.mlflow:
        return Tracker(out)

    def open_run(new: bool) -> tuple[Any, str] | None:
        try:
            return _open_mlflow(config, run_file, run_name, new)
        except Exception as error:
            logger.warning(
                "MLflow cannot be used, figures go to %s only: %s", out / LOG_NAME, first_line(error)
            )
            return None

    return Tracker(out, open_run)


def _open_mlflow(config: TrackingConfig, run_file: Path, run_name: str, new: bool) -> tuple[Any, str]:
    """Client and id of the run: that of MLFLOW_RUN_ID, else that of `run_file`, else a new one."""
    uri = tracking_uri()
    client = mlflow_client()
    run_id = os.environ.get("MLFLOW_RUN_ID") or ("" if new else read_run_id(run_file, uri))
    if not run_id or not take_up(client, run_id):
        run_id = new_run(client, config, run_name, "")
    write_run_id(run_file, run_id, uri)
    return client, run_id
