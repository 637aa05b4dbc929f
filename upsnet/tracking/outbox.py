"""What a run has for MLflow and MLflow has not got yet, on disk, so that no crash and no outage loses it.

In the folder of the run lie

    log.jsonl, system.jsonl   the points; the journal says how far MLflow has them
    mlflow_pending/           everything else, one JSON file per item in order, files beside them
    mlflow_sent.json          the journal: which run, and how far each log was sent

A params, tags, file or end item may arrive twice without harm, so it is deleted when MLflow has taken it. A
point may not: before a batch leaves, the journal says so, and if nobody knows whether it arrived, MLflow is
asked which points it has.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from upsnet.tracking.points import LOGS, mend

JOURNAL_NAME = "mlflow_sent.json"
PENDING_NAME = "mlflow_pending"
PREVIOUS = "-previous"
"""Ends the names of what another configuration left in this folder."""


def is_part_of_outbox(name: str) -> bool:
    """Whether a file belongs to an outbox, by its relative name below any folder."""
    path = PurePosixPath(name)
    return path.suffix == ".jsonl" or any(part.startswith("mlflow_") for part in path.parts)


def new_key() -> str:
    """A key that no other run has."""
    return uuid.uuid4().hex


@dataclass
class Journal:
    """Which MLflow run the folder belongs to, and what it has.

    Attributes:
        name: of a new run.
        experiment: of a new run.
        given: id of a run that was opened elsewhere (`MLFLOW_RUN_ID`), or empty.
        run_file: file with the id of the run, as seen from the folder; empty: the run is of no other folder.
        run_id: of the run, empty until it is opened.
        server: which MLflow that is, see `server_key`.
        key: tag of the run by which it is found when nobody knows whether MLflow has made it.
        started: milliseconds since 1970.
        asked: whether MLflow was asked to make it.
        sent: bytes of every log that MLflow has.
        tried: bytes of every log that left for MLflow, and perhaps arrived.
        made_of: hash of the settings and data of the training, empty before it began.
        begun_at: byte of log.jsonl where the training began, see `Repeats`; None before.
    """

    name: str
    experiment: str
    given: str = ""
    run_file: str = ""
    run_id: str = ""
    server: str = ""
    key: str = field(default_factory=new_key)
    started: int = field(default_factory=lambda: round(time.time() * 1000))
    asked: bool = False
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOGS, 0))
    tried: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOGS, 0))
    made_of: str = ""
    begun_at: int | None = None


class Outbox:
    """The pending part of one folder.

    Args:
        folder: of the run.
        suffix: `PREVIOUS` for what an earlier configuration left.

    Attributes:
        place: what the user calls the folder, which may be one in S3.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder = folder
        self.place = str(folder)
        self.suffix = suffix
        self.journal_file = folder / f"{Path(JOURNAL_NAME).stem}{suffix}.json"
        self.pending = folder / f"{PENDING_NAME}{suffix}"
        self.next_number = 1 + max((int(path.stem) for path in self.pending.glob("*.json")), default=0)

    def log(self, name: str) -> Path:
        """The log of that name."""
        path = Path(name)
        return self.folder / f"{path.stem}{self.suffix}{path.suffix}"

    def mend(self) -> None:
        """Cuts off what a killed process left half-written."""
        for name in LOGS:
            mend(self.log(name))

    def read_journal(self) -> Journal | None:
        """The journal, None if there is none that can be read."""
        try:
            return Journal(**json.loads(self.journal_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_journal(self, journal: Journal) -> None:
        """Keeps the journal; a reader never sees a part."""
        _write(self.journal_file, json.dumps(asdict(journal)).encode())

    def merged_journal(self, plan: Journal) -> Journal:
        """The journal that is there, with the names of a new process; that one's plan if there is none."""
        known = self.read_journal()
        if known is None:
            self.new_run(plan)
            return plan
        return replace(
            known, name=plan.name, experiment=plan.experiment, given=plan.given, run_file=plan.run_file
        )

    def new_run(self, journal: Journal) -> None:
        """Says that nothing is known of what MLflow has of the logs that there are."""
        journal.sent = dict.fromkeys(LOGS, 0)
        journal.tried = {name: _size(self.log(name)) for name in LOGS}

    def add(self, kind: str, payload: bytes | Path | None = None, **values: Any) -> None:
        """Keeps an item, with a file if it has one, which is copied since it may change."""
        self.pending.mkdir(parents=True, exist_ok=True)
        item = self.pending / f"{self.next_number:08d}.json"
        self.next_number += 1
        if isinstance(payload, Path):
            shutil.copyfile(payload, item.with_suffix(".file"))
        elif payload is not None:
            item.with_suffix(".file").write_bytes(payload)
        _write(item, json.dumps({"kind": kind, **values}).encode())

    def items(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The items in order; that of the end comes last whenever it was added."""
        found = []
        for path in sorted(self.pending.glob("*.json")):
            try:
                found.append((path, json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError):  # deleted since, or damaged with the disk
                continue
        yield from sorted(found, key=lambda entry: entry[1]["kind"] == "end")

    def done(self, item: Path) -> None:
        """Deletes an item that MLflow has taken, or refused."""
        item.unlink(missing_ok=True)
        item.with_suffix(".file").unlink(missing_ok=True)

    def drop(self, kind: str) -> None:
        """Deletes all items of a kind."""
        for path, item in self.items():
            if item["kind"] == kind:
                self.done(path)

    def drop_since(self, number: int) -> None:
        """Deletes the items from a number on."""
        for path, _ in self.items():
            if int(path.stem) >= number:
                self.done(path)

    def unsent(self) -> int:
        """Number of items and lines that MLflow has not got, as far as is known."""
        journal = self.read_journal()
        count = sum(1 for _ in self.pending.glob("*.json"))
        if journal is None:
            return count
        for name in LOGS:
            log = self.log(name)
            if log.is_file():
                count += log.read_bytes()[journal.sent.get(name, 0) :].count(b"\n")
        return count

    def move_to_previous(self) -> None:
        """Puts everything aside under the names that end with `PREVIOUS`, in the place of what is there."""
        journal = self.read_journal()
        if journal is not None:  # the run file is to name the next run
            self.write_journal(replace(journal, run_file=""))
        old = Outbox(self.folder, PREVIOUS)
        shutil.rmtree(old.pending, ignore_errors=True)
        for source, target in (
            *((self.log(name), old.log(name)) for name in LOGS),
            (self.pending, old.pending),
            (self.journal_file, old.journal_file),
        ):
            if source.exists():
                os.replace(source, target)
            elif target.is_file():
                target.unlink()

    def lock(self) -> IO[str] | None:
        """The right to send, until the file is closed; None if another process has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / ".mlflow_lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
