"""Brings what is in an outbox to MLflow, each point exactly once; says nothing and waits for nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from upsnet.tracking import items
from upsnet.tracking.connection import is_refusal, mlflow_client, tracking_uri
from upsnet.tracking.names import first_line
from upsnet.tracking.outbox import Journal, Outbox
from upsnet.tracking.points import LOG_NAME, LOGS, Point, Repeats, read_points
from upsnet.tracking.run_file import read_run_id, server_key, write_run_id
from upsnet.tracking.runs import find_by_key, make_run, take_up

logger = logging.getLogger(__name__)

BATCH = 1000
"""Points per request; MLflow takes no more."""


class Sender:
    """Sends for one outbox. Of all methods that speak to MLflow, an exception means: try again later.

    Args:
        outbox: what to send; its journal must be written.
        running: whether the run goes on, and is to be shown so.
    """

    def __init__(self, outbox: Outbox, running: bool) -> None:
        # A request that MLflow's client repeats by itself may arrive twice; here that is asked about.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        self._outbox = outbox
        self._running = running
        self._client: Any = None
        self._repeats: dict[str, tuple[Repeats, int]] = {}
        self._last_steps: dict[str, int] = {}
        self._refused: set[str] = set()
        journal = outbox.read_journal()
        assert journal is not None
        self.journal: Journal = journal

    @property
    def run_id(self) -> str | None:
        """Of the run, None until it is opened."""
        return self.journal.run_id if self._client is not None else None

    def begin(self, made_of: str) -> None:
        """Says that a training begins, whose figures may repeat some of before.

        Args:
            made_of: hash of its settings and data.
        """
        if self.journal.begun_at is None:
            log = self._outbox.log(LOG_NAME)
            self.journal.begun_at = log.stat().st_size if log.is_file() else 0
        self.journal.made_of = made_of
        self._outbox.write_journal(self.journal)

    def open(self) -> None:
        """Takes up the run of the journal, or makes it."""
        if self._client is not None:
            return
        client, journal = mlflow_client(), self.journal
        run_id = next((i for i in self._known_ids() if take_up(client, i, running=self._running)), None)
        run_id = run_id or self._make(client)
        if self._run_file is not None:
            write_run_id(self._run_file, run_id, tracking_uri())
        if run_id != journal.run_id:
            self._outbox.new_run(journal)
        journal.run_id, journal.server = run_id, server_key(tracking_uri())
        self._outbox.write_journal(journal)
        self._client = client

    def send(self) -> None:
        """Sends everything that is there."""
        self.open()
        waiting = list(self._outbox.items())
        for path, item in waiting:
            if item["kind"] != "end":
                self._send_item(path, item)
        for name in LOGS:
            self._send_points(name)
        for path, item in waiting:
            if item["kind"] == "end":
                self._send_item(path, item)

    @property
    def _run_file(self) -> Path | None:
        name = self.journal.run_file
        return Path(os.path.normpath(self._outbox.folder / name)) if name else None

    def _known_ids(self) -> list[str]:
        """Ids that the run may have, the first that MLflow knows is it."""
        journal, uri = self.journal, tracking_uri()
        filed = read_run_id(self._run_file, uri) if self._run_file is not None else ""
        own = journal.run_id if self._run_file is None and journal.server == server_key(uri) else ""
        return [run_id for run_id in (journal.given, filed, own) if run_id]

    def _make(self, client: Any) -> str:
        journal = self.journal
        made = find_by_key(client, journal.experiment, journal.key) if journal.asked else ""
        if made:
            return made
        journal.asked = True  # from here on it may exist, whatever becomes of the answer
        self._outbox.write_journal(journal)
        return make_run(client, journal.experiment, journal.name, journal.key, journal.started)

    def _send_item(self, path: Path, item: Mapping[str, Any]) -> None:
        call: Callable[[], None] = lambda: items.send(  # noqa: E731
            self._client, self.journal.run_id, item, path.with_suffix(".file")
        )
        self._or_refused(f"{item['kind']} {item.get('name', '')}".strip(), call)
        self._outbox.done(path)

    def _send_points(self, name: str) -> None:
        journal = self.journal
        while True:
            points, end = self._next_batch(name)
            if end == journal.sent[name]:
                return
            if journal.tried[name] > journal.sent[name]:
                points = self._missing(points)
            journal.tried[name] = max(end, journal.tried[name])
            self._outbox.write_journal(journal)
            for start in range(0, len(points), BATCH):
                batch = points[start : start + BATCH]
                self._or_refused("figures", lambda batch=batch: self._log_batch(batch))  # type: ignore[misc]
            journal.sent[name] = end
            self._outbox.write_journal(journal)

    def _next_batch(self, name: str) -> tuple[list[Point], int]:
        """The points of the next lines, about `BATCH` of them, and the byte where these lines end."""
        log, end = self._outbox.log(name), self.journal.sent[name]
        repeats = self._repeats_up_to(name, end)
        points: list[Point] = []
        for line, begin, after in read_points(log, end):
            if points and len(points) + len(line) > BATCH:
                break
            points += repeats.new(line, begin)
            end = after
        self._repeats[name] = (repeats, end)
        return points, end

    def _repeats_up_to(self, name: str, end: int) -> Repeats:
        """What tells repeated points, having seen the log up to a byte; made anew after a failed batch."""
        known, seen = self._repeats.get(name, (None, -1))
        if known is not None and seen == end:
            return known
        fresh = Repeats(self.journal.begun_at if name == LOG_NAME else None, self._last_step)
        for points, begin, _ in read_points(self._outbox.log(name), 0, end):
            fresh.new(points, begin)
        return fresh

    def _last_step(self, name: str) -> int:
        """The last step of a figure in MLflow before this process sent any of it, -1 without one."""
        if name not in self._last_steps:
            history = self._client.get_metric_history(self.journal.run_id, name)
            self._last_steps[name] = max((metric.step for metric in history), default=-1)
        return self._last_steps[name]

    def _missing(self, points: list[Point]) -> list[Point]:
        """Those that MLflow has not got, when an earlier request may have brought them."""
        had = {
            (name, metric.timestamp, metric.step)
            for name in {point.name for point in points}
            for metric in self._client.get_metric_history(self.journal.run_id, name)
        }
        return [point for point in points if (point.name, point.time, point.step) not in had]

    def _log_batch(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        self._client.log_batch(self.journal.run_id, metrics=metrics)

    def _or_refused(self, what: str, call: Callable[[], None]) -> None:
        """Makes a call; what MLflow refuses for good is said once and left out."""
        try:
            call()
        except Exception as error:
            if not is_refusal(error):
                raise
            if what not in self._refused:
                self._refused.add(what)
                logger.warning("MLflow refuses %s, going on without: %s", what, first_line(error))
