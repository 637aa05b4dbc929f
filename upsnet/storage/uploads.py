"""Keeps a folder in S3 like one on this machine, in the background: checkpoints and the log of a training."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from upsnet.errors import StorageError
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import delete, head
from upsnet.storage.upload import transfer_manager, upload

PAUSE_S = 20.0
"""Between two tries, where the retries of the first one did not help."""
UNCHANGED = (".pt",)
"""Files that are never written to again, only replaced; a second name is as good as a copy of them."""

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int]


class FolderUploads:
    """Sends a folder's files whenever `update` says that they changed, and deletes in S3 those that are gone.

    What is to be sent is first put aside, where nobody changes or deletes it; of a file that changes faster
    than it can be sent only the last state goes up. Hidden files and `*.part` stay.

    Args:
        folder: on this machine.
        target: in S3.
        aside: an empty folder of the same disk, or none yet.
        known: relative names of files in S3 that are to go when they are not here.
    """

    def __init__(self, folder: Path, target: S3Path, aside: Path, *, known: Iterable[str] = ()) -> None:
        self._folder = folder
        self._target = target
        self._aside = aside
        self._sent: dict[str, Stamp] = {}
        self._waiting: set[str] = set()
        self._in_s3 = set(known)
        self._gone: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._error: StorageError | None = None
        self._crash: BaseException | None = None
        shutil.rmtree(aside, ignore_errors=True)
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def update(self) -> None:
        """Takes note of the files as they are now; returns at once."""
        try:
            self._note()
        except OSError as error:  # a full disk, say: what could not be noted is so the next time
            logger.warning("%s: cannot be put aside for uploading: %s", self._folder, error)
        self._wake.set()

    def _note(self) -> None:
        with self._lock:
            now = self._stamps()
            for name, stamp in now.items():
                if self._sent.get(name) != stamp:
                    with suppress(FileNotFoundError):  # it went just now, which the next call notes
                        _put_aside(self._folder / name, self._aside / "waiting" / name)
                        self._sent[name] = stamp
                        self._waiting.add(name)
            superseded = {name for name in self._waiting if name not in now}
            for name in superseded:
                (self._aside / "waiting" / name).unlink(missing_ok=True)
            self._waiting -= superseded
            self._gone = (self._in_s3 | set(self._sent)) - now.keys()

    def close(self) -> None:
        """Sends the last state of all files, and waits for it.

        Raises:
            StorageError: some could not be sent; they stay in the folder.
        """
        self.update()
        self._closing = True
        self._wake.set()
        self._thread.join()
        shutil.rmtree(self._aside, ignore_errors=True)
        if self._crash is not None:
            raise self._crash
        if self._error is not None:
            raise StorageError(
                f"{self._error}\n  Not all results are in S3, but none is lost: they are in {self._folder}. "
                "Run the same command again to send the rest"
            ) from self._error

    def _run(self) -> None:
        try:
            while not self._closing or self._wake.is_set():
                self._wake.wait(PAUSE_S if self._error else None)
                self._wake.clear()
                self._try()
        except BaseException as error:  # a bug, which `close` raises where somebody sees it
            self._crash = error

    def _try(self) -> None:
        """Sends what waits; an error is warned of once and stays until a try succeeds."""
        try:
            self._send_waiting()
            self._delete_gone()
        except StorageError as error:
            if self._error is None and not self._closing:
                logger.warning("uploading to %s is late, the work goes on: %s", self._target, error)
            self._error = error
        else:
            if self._error is not None:
                logger.info("uploading to %s works again", self._target)
            self._error = None

    def _send_waiting(self) -> None:
        while name := self._take():
            path, target = self._aside / "sending" / name, self._target / name
            try:
                with transfer_manager() as manager:
                    upload(manager, path, target, head(target), lambda _: None)
            except BaseException:
                self._put_back(name)
                raise
            path.unlink()
            with self._lock:
                self._in_s3.add(name)

    def _take(self) -> str:
        """The next file to send, empty if there is none: checkpoints first, the newest of them first."""
        with self._lock:
            if not self._waiting:
                return ""
            name = max(self._waiting, key=lambda name: (name.endswith(UNCHANGED), name))
            self._waiting.remove(name)
            sending = self._aside / "sending" / name
            sending.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._aside / "waiting" / name, sending)
        return name

    def _put_back(self, name: str) -> None:
        with self._lock:
            if name not in self._waiting:  # else a newer one waits
                os.replace(self._aside / "sending" / name, self._aside / "waiting" / name)
                self._waiting.add(name)

    def _delete_gone(self) -> None:
        with self._lock:
            gone = sorted(self._gone & self._in_s3)
        for name in gone:
            delete(self._target / name)
            with self._lock:
                self._in_s3.discard(name)

    def _stamps(self) -> dict[str, Stamp]:
        """All files that belong to S3, by relative name, and what tells that one has changed."""
        stamps = {}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder)
            hidden = any(part.startswith(".") or part.endswith(".part") for part in name.parts)
            if not hidden and path.is_file():
                with suppress(FileNotFoundError):
                    stamps[name.as_posix()] = _stamp(path)
        return stamps


def _put_aside(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if path.suffix in UNCHANGED:
        try:
            os.link(path, place)
            return
        except OSError:  # a file system without second names
            pass
    shutil.copyfile(path, place)


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
