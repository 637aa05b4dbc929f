"""Where the figures of a run go: JSON lines always, MLflow when configured; the one file that imports mlflow.

`<out>/log.jsonl` gets one object per call of `log_metrics`: `time` (UTC, ISO 8601), `step`, and the metrics
by name beside them. MLflow is a guest: when it is missing, unreachable or refuses a call, one warning is
logged and the work goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upsnet import distributed
from upsnet.config import TrackingConfig
from upsnet.errors import UpsnetError

logger = logging.getLogger(__name__)

LOG_NAME = "log.jsonl"
DEFAULT_URI = "sqlite:///mlflow.db"
PAUSE_SECONDS = 60.0
"""How long MLflow is left alone after a call that failed."""
PARENT_TAG = "mlflow.parentRunId"
"""What the MLflow UI nests a run by; it shows one level."""

# MLflow's own defaults retry for many minutes, during which training would stand still.
QUIET_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


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
        flat = {legal_name(key): str(value)[:6000] for key, value in _flatten(params, "")}
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
        self._send("set_tags", lambda client, run_id: _set_tags(client, run_id, self._tags))

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
        self._send("log_params", lambda client, run_id: _log_params(client, run_id, params))

    def _send_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._send("log_metrics", lambda client, run_id: _log_metrics(client, run_id, values, step))

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


def open_run(
    config: TrackingConfig,
    name: str,
    *,
    parent: str = "",
    run_file: Path | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """Opens a run that another process goes on with through `MLFLOW_RUN_ID`, such as a parent of others.

    Args:
        config: whether there is MLflow, and which experiment.
        name: of a new run.
        parent: id of the run that it is shown below, in the parent's experiment. Without one, the run of
            `MLFLOW_RUN_ID` is taken, which a pipeline's back end may have opened; a child never is that run.
        run_file: as in `open_tracker`; the run that it names, of an earlier attempt, goes before all others.
        params: settings.
        tags: what may change later.

    Returns:
        Id of the run; empty where MLflow is not configured or cannot be used, which is a warning.
    """
    if not config.mlflow:
        return ""
    try:
        client = mlflow_client()
        known = _read_run_id(run_file, tracking_uri()) if run_file else ""
        given = known or ("" if parent else os.environ.get("MLFLOW_RUN_ID", ""))
        run_id = given if given and _take_up(client, given) else _new_run(client, config, name, parent)
        if run_file:
            _write_run_id(run_file, run_id, tracking_uri())
        _log_params(client, run_id, {legal_name(k): str(v)[:6000] for k, v in (params or {}).items()})
        _set_tags(client, run_id, {legal_name(k): str(v)[:5000] for k, v in (tags or {}).items()})
    except Exception as error:
        logger.warning("MLflow cannot be used, run %r is not logged: %s", name, first_line(error))
        return ""
    return run_id


def close_run(
    run_id: str,
    status: str = "FINISHED",
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Ends a run that `open_run` opened, with figures, tags, and texts by artifact name.

    What MLflow refuses is a warning; without a run id, nothing happens.
    """
    if not run_id:
        return
    try:
        client = mlflow_client()
        _log_metrics(client, run_id, {legal_name(k): float(v) for k, v in (metrics or {}).items()}, 0)
        _set_tags(client, run_id, {legal_name(k): str(v)[:5000] for k, v in (tags or {}).items()})
        for name, text in (texts or {}).items():
            client.log_text(run_id, text, name)
        client.set_terminated(run_id, status)
    except Exception as error:
        logger.warning("MLflow cannot be used, run %s is not ended: %s", run_id, first_line(error))


def read_runs(experiment: str) -> list[dict[str, Any]]:
    """All runs of an MLflow experiment, oldest first.

    Each has `run_id`, `name`, `status`, `params`, `tags`, and the last values of `metrics`.

    Raises:
        UpsnetError: MLflow is missing or does not answer, or has no such experiment.
    """
    uri, where = tracking_uri(), tracking_place()
    database = Path(where.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.is_file():  # MLflow would make one
        raise UpsnetError(f"MLflow: there is no {database}; set MLFLOW_TRACKING_URI to where the runs are")
    try:
        client = mlflow_client()
        found = client.get_experiment_by_name(experiment)
        known = [] if found else [e.name for e in client.search_experiments()]
        runs = _all_runs(client, found.experiment_id) if found else []
    except Exception as error:
        raise UpsnetError(f"MLflow at {where} cannot be read: {first_line(error)}") from error
    if found is None:
        raise UpsnetError(f"MLflow at {where} has no experiment {experiment!r}; it has {', '.join(known)}")
    return [
        {
            "run_id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "params": dict(run.data.params),
            "tags": dict(run.data.tags),
            "metrics": dict(run.data.metrics),
        }
        for run in reversed(runs)
    ]


def git_tags() -> dict[str, str]:
    """Commit and dirty flag of the program's repository; empty without git or outside a repository."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return {}
        # DVC writes its lock file in the middle of the very run that asks.
        changes = git("status", "--porcelain", "--", ".", ":(exclude)*dvc.lock")
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(changes))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _open_mlflow(config: TrackingConfig, run_file: Path, run_name: str, new: bool) -> tuple[Any, str]:
    """Client and id of the run: that of MLFLOW_RUN_ID, else that of `run_file`, else a new one."""
    uri = tracking_uri()
    client = mlflow_client()
    run_id = os.environ.get("MLFLOW_RUN_ID") or ("" if new else _read_run_id(run_file, uri))
    if not run_id or not _take_up(client, run_id):
        run_id = _new_run(client, config, run_name, "")
    _write_run_id(run_file, run_id, uri)
    return client, run_id


def _new_run(client: Any, config: TrackingConfig, name: str, parent: str) -> str:
    """Makes a run in the configured experiment, or below a parent in the parent's."""
    if parent:
        experiment_id, tags = client.get_run(parent).info.experiment_id, {PARENT_TAG: parent}
    else:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment
        experiment_id, tags = _experiment_id(client, experiment, tracking_uri()), {}
    return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


def tracking_uri() -> str:
    """Where MLflow is."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def tracking_place() -> str:
    """Where MLflow is, for messages: without passwords."""
    return re.sub(r"//[^/@\s]+@", "//***@", tracking_uri()).split("?")[0]


def mlflow_client() -> Any:
    """A client that is quiet and does not retry for long."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"mlflow\.")
    return mlflow.MlflowClient(tracking_uri=tracking_uri())


def _all_runs(client: Any, experiment_id: str) -> list[Any]:
    """The runs of an experiment, newest first, page by page."""
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _experiment_id(client: Any, name: str, uri: str) -> str:
    """Id of the experiment, made if it is new; a local store keeps its artifacts in ./mlartifacts."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = uri.startswith("sqlite:")
    return str(client.create_experiment(name, Path("mlartifacts").resolve().as_uri() if local else None))


def _take_up(client: Any, run_id: str) -> bool:
    """Sets an existing run running again; False if the server does not know it."""
    from mlflow.exceptions import MlflowException

    try:
        if client.get_run(run_id).info.lifecycle_stage != "active":
            return False
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    client.update_run(run_id, status="RUNNING")
    return True


def _read_run_id(run_file: Path, uri: str) -> str:
    """The run id in the file; empty if there is none, or if it is of another MLflow."""
    try:
        content = json.loads(run_file.read_text(encoding="utf-8"))
        return str(content["run_id"]) if content["server"] == _server_key(uri) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_run_id(run_file: Path, run_id: str, uri: str) -> None:
    run_file.parent.mkdir(parents=True, exist_ok=True)
    part = run_file.with_name(run_file.name + ".part")
    part.write_text(json.dumps({"run_id": run_id, "server": _server_key(uri)}) + "\n", encoding="utf-8")
    os.replace(part, run_file)


def _server_key(uri: str) -> str:
    """Tells servers apart in the run file; not the address itself, which may hold a password."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def _log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[start : start + 100])


def _set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _log_metrics(client: Any, run_id: str, values: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for name, value in values.items()]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def _flatten(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def legal_name(name: str) -> str:
    """The name as MLflow allows it: letters, digits, `_ - . : /` and spaces, at most 250, a clean path."""
    parts = [re.sub(r"[^\w\-. :]", "_", part).strip() for part in name.split("/")]
    return "/".join(part for part in parts if part.strip("."))[:250].rstrip("/") or "_"


def first_line(error: Exception) -> str:
    """The exception in one line of bearable length, without the password of an address."""
    lines = re.sub(r"//[^/@\s]+@", "//***@", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
