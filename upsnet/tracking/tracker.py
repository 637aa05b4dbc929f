"""Takes the figures, texts, tables and pictures of one run: JSON lines always, MLflow when configured.

`<out>/log.jsonl` gets one object per call of `log_metrics`: `time` (UTC, ISO 8601), `step`, and the metrics
by name beside them. MLflow is a guest: everything for it is put into an outbox on disk, which a thread
empties. When MLflow is missing, unreachable or refuses a call, one warning is logged and the work goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from upsnet import distributed
from upsnet.config import TrackingConfig
from upsnet.tracking.background import BackgroundSender
from upsnet.tracking.connection import mlflow_client, tracking_uri
from upsnet.tracking.names import first_line, flatten, legal_name
from upsnet.tracking.outbox import Journal, Outbox, new_key
from upsnet.tracking.points import LOG_NAME, SYSTEM_NAME, append_line, mend
from upsnet.tracking.run_file import write_run_id
from upsnet.tracking.system import SystemFigures

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3.0
"""How long another process may hold the outbox, such as `upsnet sync` that is about to end."""


class Tracker:
    """Takes the figures, texts, tables and pictures of one run.

    Args:
        out: folder of `log.jsonl`; None drops everything, as on every rank but the first.
        plan: which MLflow run; None leaves MLflow out.
        place: what the user calls `out`, for messages.
    """

    def __init__(self, out: Path | None, plan: Journal | None = None, place: str = "") -> None:
        self._log = out / LOG_NAME if out else None
        self._outbox = Outbox(out) if out and plan else None
        if self._outbox is not None:
            self._outbox.place = place or str(out)
        self._plan = plan
        self._sender: BackgroundSender | None = None
        self._system: SystemFigures | None = None
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._dataset: dict[str, Any] = {}
        self._tables: list[dict[str, str]] = []
        self._warned = False
        if self._log is not None:
            mend(self._log)
        self._first_item = 0
        self._open()

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run; None without one, and as long as MLflow has not answered."""
        return self._sender.run_id if self._sender else None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs settings, which never change; nested mappings become dotted names."""
        flat = {legal_name(key): str(value)[:6000] for key, value in flatten(params, "")}
        self._params.update(flat)
        self._keep("params", values=flat)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs figures at an iteration. A figure that is not finite is null in the JSON line."""
        if self._log is None:
            return
        append_line(self._log, {legal_name(name): float(value) for name, value in metrics.items()}, step)
        if self._sender is not None:
            self._sender.start()

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags, which may change later, unlike params."""
        values = {legal_name(name): str(value)[:5000] for name, value in tags.items()}
        self._tags.update(values)
        self._keep("tags", values=values)

    def log_text(self, text: str, name: str) -> None:
        """Stores a text as the artifact `name`, such as `config.yaml`."""
        self._texts[name] = text
        self._keep("artifact", text.encode(), name=name)

    def log_table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Stores rows with the same keys as a table that MLflow displays; `name` ends with `.json`.

        A table of the same name is replaced; MLflow's own `log_table` would append to it.
        """
        columns = list(rows[0]) if rows else []
        table = {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]}
        self._keep("artifact", json.dumps(table).encode(), name=name)
        self._tables = [entry for entry in self._tables if entry["path"] != name]
        self._tables.append({"path": name, "type": "table"})
        self.set_tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def log_image(self, path: Path, name: str) -> None:
        """Stores a picture file as the artifact `name`, such as `strips/17.png`."""
        self._keep("artifact", path, name=name)

    def log_picture_at(self, path: Path, name: str, step: int) -> None:
        """Stores a picture file as one of a series over steps, which the UI shows with a slider."""
        self._keep("image", path, name=legal_name(name), step=step, time=_now())

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Stores a file, under its own name, in a folder of the run's artifacts."""
        self._keep("artifact", path, name=f"{folder}/{path.name}" if folder not in ("", ".") else path.name)

    def log_dataset(self, dataset: Mapping[str, str]) -> None:
        """Names the data that the run used; see `describe_dataset`."""
        self._dataset = dict(dataset)
        self._keep("dataset", None, **dataset)

    def begin(self, resumed: bool) -> None:
        """Says that the training begins now: what was put in so far is sent, and the machine is watched.

        The figures of iterations that it repeats come once. What a training of other settings or data left,
        which was killed before its first checkpoint, stays with a run of its own.

        Args:
            resumed: it goes on from a checkpoint.
        """
        if self._sender is None or self._outbox is None:
            return
        made_of = self._made_of()
        known = self._outbox.read_journal()
        if not resumed and known is not None and known.made_of not in ("", made_of):
            self.start_over()
        self._sender.begin(made_of)
        self._sender.start()
        self._system = SystemFigures(self._outbox.log(SYSTEM_NAME))

    def start_over(self) -> None:
        """Puts the log of another configuration aside (`log-previous.jsonl`) and begins a new MLflow run.

        The params, tags, texts and data set that this tracker was given go to the new run only, if it has not
        begun to log figures.
        """
        if self._outbox is None or self._plan is None:
            if self._log is not None and self._log.exists():
                os.replace(self._log, self._log.with_name("log-previous.jsonl"))
            return
        if self._sender is not None and not self._sender.started:
            self._outbox.drop_since(self._first_item)
        self.close()
        self._outbox.move_to_previous()
        self._plan = replace(self._plan, key=new_key(), started=_now())
        write_run_id(self._outbox.folder / self._plan.run_file, self._plan.given, tracking_uri())
        self._open()
        self.log_params(self._params)
        self.set_tags(self._tags)
        for name, text in self._texts.items():
            self.log_text(text, name)
        if self._dataset:
            self.log_dataset(self._dataset)

    def flush(self) -> bool:
        """Sends what is there, waiting for it, but not for ever; whether MLflow has everything."""
        return self._sender.flush() if self._sender else True

    def close(self, status: str = "FINISHED") -> None:
        """Ends the MLflow run: `FINISHED`, `FAILED` or `KILLED`. A later process may take it up again."""
        if self._system is not None:
            self._system.close()
        if self._sender is not None:
            self._keep("end", status=status, time=_now())
            self._sender.close()
        self._sender = self._system = None

    def _made_of(self) -> str:
        """Hash of params, texts and data set."""
        given = json.dumps([self._params, self._texts, self._dataset], sort_keys=True)
        return hashlib.sha256(given.encode()).hexdigest()

    def _open(self) -> None:
        if self._outbox is None or self._plan is None:
            return
        lock = _wait_for_lock(self._outbox)
        if lock is not None:
            self._outbox.mend()
            self._outbox.drop("end")
            self._outbox.write_journal(self._outbox.merged_journal(self._plan))
        self._first_item = self._outbox.next_number
        self._sender = BackgroundSender(self._outbox, lock)

    def _keep(self, kind: str, payload: bytes | Path | None = None, **values: Any) -> None:
        """Puts an item into the outbox; a full disk must not stop the work."""
        if self._outbox is None:
            return
        try:
            self._outbox.add(kind, payload, **values)
        except OSError as error:
            if not self._warned:
                self._warned = True
                logger.warning("MLflow misses what cannot be kept in %s: %s", self._outbox.folder, error)


def open_tracker(
    config: TrackingConfig, out: Path, *, run_file: Path, run_name: str, place: str = ""
) -> Tracker:
    """Opens the tracker of this process; every rank but the first gets one that drops everything.

    Args:
        config: what to log to.
        out: folder of `log.jsonl`.
        run_file: JSON file with the id of the MLflow run, so that a later process goes on with the same run.
            `MLFLOW_RUN_ID` goes before it.
        run_name: name of a new run.
        place: what the user calls `out`, which may be a folder in S3; default: `out`.
    """
    if not distributed.is_main():
        return Tracker(None)
    if not config.mlflow:
        return Tracker(out)
    try:
        mlflow_client()
    except Exception as error:
        logger.warning("MLflow cannot be used, figures go to %s only: %s", out / LOG_NAME, first_line(error))
        return Tracker(out)
    plan = Journal(
        name=run_name,
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment,
        given=os.environ.get("MLFLOW_RUN_ID", ""),
        run_file=os.path.relpath(run_file, out),
    )
    out.mkdir(parents=True, exist_ok=True)
    if plan.given or not run_file.exists():  # a later process is to find the run that is not open yet
        write_run_id(run_file, plan.given, tracking_uri())
    return Tracker(out, plan, place)


def _wait_for_lock(outbox: Outbox) -> IO[str] | None:
    """The right to send, None if another process keeps it."""
    until = time.monotonic() + LOCK_SECONDS
    while (lock := outbox.lock()) is None and time.monotonic() < until:
        time.sleep(0.1)
    return lock


def _now() -> int:
    return round(time.time() * 1000)
