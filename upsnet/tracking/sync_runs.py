"""Brings to MLflow what the runs in some folders still have for it; see `upsnet sync`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from upsnet.errors import UpsnetError
from upsnet.tracking.connection import tracking_place, tracking_uri
from upsnet.tracking.names import first_line
from upsnet.tracking.outbox import JOURNAL_NAME, PREVIOUS, Outbox
from upsnet.tracking.run_file import server_key
from upsnet.tracking.sender import Sender


@dataclass(frozen=True)
class Synced:
    """What became of one outbox; `count` items and lines were sent to the MLflow run `run_id`."""

    folder: Path
    run_id: str
    count: int


def sync_runs(folders: list[Path]) -> Iterator[Synced]:
    """Sends what is pending in the folders and anywhere below them.

    Yields:
        every outbox, once MLflow has all of it.

    Raises:
        UpsnetError: a folder without a run, one that a training sends for at this moment, or MLflow does not
            answer. What was sent until then is not sent again.
    """
    for folder in folders:
        for outbox in _outboxes(folder):
            yield _sync(outbox)


def _outboxes(folder: Path) -> list[Outbox]:
    """The outboxes in a folder, those of earlier configurations and of trainings first, then evaluations."""
    files = sorted(folder.rglob(JOURNAL_NAME), key=lambda path: (len(path.parts), path))
    if not files:
        raise UpsnetError(
            f"sync {folder}: there is no {JOURNAL_NAME}; name the folder of a training or evaluation "
            "that logs to MLflow (tracking.mlflow=true)"
        )
    found = [Outbox(file.parent, suffix) for file in files for suffix in (PREVIOUS, "")]
    return [outbox for outbox in found if outbox.journal_file.is_file()]


def _sync(outbox: Outbox) -> Synced:
    lock = outbox.lock()
    if lock is None:
        raise UpsnetError(
            f"sync {outbox.folder}: another process is sending for this folder; a training that runs does so "
            "by itself, so wait for its end"
        )
    with lock:
        return _send(outbox)


def _send(outbox: Outbox) -> Synced:
    outbox.mend()
    journal, count = outbox.read_journal(), outbox.unsent()
    if journal is None:
        raise UpsnetError(
            f"sync {outbox.folder}: {outbox.journal_file.name} is damaged; train or evaluate again"
        )
    if journal.server and journal.server != server_key(tracking_uri()):
        raise UpsnetError(
            f"sync {outbox.folder}: its run is of another MLflow than {tracking_place()}; set "
            "MLFLOW_TRACKING_URI to what it was for that run"
        )
    if count == 0:
        return Synced(outbox.folder, journal.run_id, 0)
    sender = Sender(outbox, running=False)
    try:
        sender.send()
    except Exception as error:
        raise UpsnetError(
            f"sync {outbox.folder}: MLflow at {tracking_place()} did not take everything, {outbox.unsent()} "
            f"of {count} items are left; run 'upsnet sync' again when it answers: {first_line(error)}"
        ) from error
    return Synced(outbox.folder, sender.journal.run_id, count)
