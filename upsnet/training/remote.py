"""Trainings whose folder is in S3: what is there comes first, and what is new goes up in the background."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from upsnet import distributed
from upsnet.errors import CheckpointError, StorageError
from upsnet.storage.cache import cache_root
from upsnet.storage.files import make_folder
from upsnet.storage.local import local_folder, working_folder
from upsnet.storage.paths import S3Path, parse_place
from upsnet.storage.s3 import endpoint, list_files
from upsnet.storage.transfer import download_folder
from upsnet.storage.uploads import FolderUploads
from upsnet.tracking.models import is_model_uri, model_checkpoint
from upsnet.tracking.outbox import PENDING_NAME, PREVIOUS
from upsnet.training import checkpoint

logger = logging.getLogger(__name__)

OUTBOXES = (PENDING_NAME, f"{PENDING_NAME}{PREVIOUS}")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a training on this machine.

    Attributes:
        path: where everything is written and read.
        changed: to be called by rank 0 when files are new or gone; returns at once.
    """

    path: Path
    changed: Callable[[], None]


@contextmanager
def run_folder(place: str | Path) -> Iterator[RunFolder]:
    """The folder of a training; every rank calls it, after `distributed.init`.

    Of one in S3, rank 0 fetches what is there, sends what is new while the block runs, and waits for the rest
    at its end. Until then the files are on this machine as well, below UPSNET_CACHE, also after a kill.

    Raises:
        StorageError: S3 cannot be read, or at the end not be written.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        yield RunFolder(make_folder(parsed), _nothing)
    elif not distributed.is_main():
        yield from _of_another_rank()
    else:
        yield from _kept_in_s3(parsed)


def _nothing() -> None:
    """There is nobody to tell."""


def _of_another_rank() -> Iterator[RunFolder]:
    """An empty folder, for the time being."""
    folder = working_folder()
    try:
        yield RunFolder(folder, _nothing)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kept_in_s3(place: S3Path) -> Iterator[RunFolder]:
    home = cache_root() / "trainings" / hashlib.sha256(f"{endpoint()}\n{place}".encode()).hexdigest()[:24]
    folder = make_folder(home / place.name)
    there = [
        name for name in (_relative(remote.path, place) for remote in list_files(place)) if _belongs(name)
    ]
    if _fetch_first(there, folder):
        download_folder(place, folder, wanted=_belongs)
    known = [name for name in there if _iteration(name) >= 0]
    uploads = FolderUploads(folder, place, home / "uploads", known=known)
    try:
        yield RunFolder(folder, uploads.update)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):  # who presses Ctrl-C wants no wait
            _close_anyway(uploads)
        raise
    uploads.close()
    shutil.rmtree(home, ignore_errors=True)  # everything is in S3


def _close_anyway(uploads: FolderUploads) -> None:
    """The error that ends the training is the one to tell; this one is only a warning."""
    try:
        uploads.close()
    except StorageError as error:
        logger.warning("%s", error)


def _fetch_first(there: Iterable[str], folder: Path) -> bool:
    """Whether S3 has the newer state of the training; else a killed process left its last files here."""
    newest = max((_iteration(name) for name in there), default=-1)
    here = [path.name for path in (folder / checkpoint.FOLDER).glob(checkpoint.PATTERN)]
    return newest > max((_iteration(name) for name in here), default=-1)


def local_checkpoint(place: str | Path) -> Path:
    """A checkpoint or folder of a training on this machine as it is, or the copy of one in S3 or MLflow.

    Of a folder in S3 it is the newest checkpoint, and the file of the training's MLflow run comes with it.

    Raises:
        CheckpointError: the folder has no checkpoint, or MLflow no such model.
        StorageError: it cannot be had.
    """
    if is_model_uri(place):
        return model_checkpoint(str(place), cache_root() / "models")
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        return parsed
    file = parsed if parsed.name.endswith(".pt") else _newest(parsed)
    run = file.parent.parent if file.parent.name == checkpoint.FOLDER else file.parent
    name = _relative(file, run)
    return local_folder(str(run), lambda other: other == name or _is_run_file(other)) / name


def _newest(folder: S3Path) -> S3Path:
    found = [
        remote.path
        for remote in list_files(folder)
        if remote.path.parent in (folder, folder / checkpoint.FOLDER) and _iteration(remote.path.name) >= 0
    ]
    if not found:
        raise CheckpointError(f"{folder}: has no checkpoint; train first, or name a checkpoint")
    return max(found, key=lambda path: _iteration(path.name))


def _belongs(name: str) -> bool:
    """Whether a training goes on with this file: not with stale checkpoints, nor with other folders."""
    return PurePosixPath(name).parent.as_posix() in (".", checkpoint.FOLDER, *OUTBOXES)


def _is_run_file(name: str) -> bool:
    return name.endswith(".json") and "/" not in name


def _iteration(name: str) -> int:
    """Of the name of a checkpoint; -1 of another file's."""
    path = PurePosixPath(name)
    digits = path.stem.removeprefix("iteration-")
    return int(digits) if path.match(checkpoint.PATTERN) and digits.isdigit() else -1


def _relative(path: S3Path, folder: S3Path) -> str:
    return path.key.removeprefix(folder.prefix)
