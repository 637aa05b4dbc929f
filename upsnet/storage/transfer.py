"""Moves many files between this machine and S3 at a time, with one progress bar."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from upsnet.errors import StorageError
from upsnet.progress import show_progress
from upsnet.storage.download import download
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import RemoteFile, head, list_files
from upsnet.storage.upload import Count, transfer_manager, upload

FILES_AT_ONCE = 6
MEGABYTE = 10**6

Job = Callable[[Any, Count], None]
"""Moves one file, by a transfer manager, and counts its bytes."""


def upload_folder(folder: Path, target: S3Path, *, last: Sequence[str] = (), quiet: bool = False) -> None:
    """Sends all files of a folder, and of those in it, that S3 does not have yet; hidden ones stay.

    Args:
        folder: whose files nobody changes meanwhile.
        target: takes them; what else lies there stays.
        last: relative names that go when all others are there, the sign of a complete folder.
        quiet: without progress.

    Raises:
        StorageError: something could not be sent; the command may be repeated and goes on.
    """
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    files = {path.relative_to(folder).as_posix(): path for path in found}
    there = {remote.path: remote for remote in list_files(target)}

    def job(name: str) -> Job:
        goal = target / name
        return lambda manager, count: upload(manager, files[name], goal, there.get(goal), count)

    total = sum(path.stat().st_size for path in files.values())
    first = [job(name) for name in files if name not in last]
    rest = [job(name) for name in files if name in last]
    run_jobs([first, rest], total, f"upload {target}", quiet)


def upload_file(path: Path, target: S3Path) -> None:
    """Sends one file, unless S3 has the same already.

    Raises:
        StorageError: it could not be sent.
    """
    existing = head(target)
    jobs: list[Job] = [lambda manager, count: upload(manager, path, target, existing, count)]
    run_jobs([jobs], path.stat().st_size, f"upload {target.name}", quiet=False)


def download_folder(
    source: S3Path, folder: Path, *, wanted: Callable[[str], bool] = lambda _: True, quiet: bool = False
) -> list[str]:
    """Fetches the objects in a folder that are not there yet.

    Args:
        source: the folder in S3.
        folder: takes the files; what else lies there stays.
        wanted: by relative name.
        quiet: without progress.

    Returns:
        Their relative names, in order; empty if S3 has none.

    Raises:
        StorageError: something could not be had; the command may be repeated and goes on.
    """
    found = {remote.path.key.removeprefix(source.prefix): remote for remote in list_files(source)}
    chosen = {_safe(name, source): remote for name, remote in found.items() if wanted(name)}

    def job(name: str, listed: RemoteFile) -> Job:
        return lambda manager, count: download(manager, existing(listed.path), folder / name, count)

    total = sum(remote.size for remote in chosen.values())
    run_jobs([[job(*item) for item in chosen.items()]], total, f"download {source}", quiet)
    return sorted(chosen)


def download_file(remote: RemoteFile, path: Path, *, quiet: bool = False) -> None:
    """Fetches one object, as `head` found it.

    Raises:
        StorageError: it could not be had.
    """
    jobs: list[Job] = [lambda manager, count: download(manager, remote, path, count)]
    run_jobs([jobs], remote.size, f"download {path.name}", quiet)


def existing(path: S3Path) -> RemoteFile:
    """The object at a path.

    Raises:
        StorageError: there is none.
    """
    remote = head(path)
    if remote is None:
        raise StorageError(f"{path}: there is no such object; check the name")
    return remote


def run_jobs(stages: Sequence[Sequence[Job]], total: int, description: str, quiet: bool) -> None:
    """Runs jobs in parallel, stage after stage; the first error ends them all.

    Args:
        stages: the jobs.
        total: bytes of all jobs together.
        description: for the progress.
        quiet: without progress.
    """
    progress = _megabytes(stages)
    if not quiet:
        progress = show_progress(progress, total // MEGABYTE, f"{description} (MB)", weight=lambda done: done)
    for _ in progress:
        pass


def _megabytes(stages: Sequence[Sequence[Job]]) -> Iterator[int]:
    """Runs the jobs, and yields now and then how many more megabytes are done."""
    done = 0
    for jobs in stages:
        events: queue.SimpleQueue[int | Future[None]] = queue.SimpleQueue()
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            try:
                with transfer_manager() as manager:
                    for job in jobs:
                        pool.submit(job, manager, events.put).add_done_callback(events.put)
                    for count in _counts(events, len(jobs)):
                        before, done = done // MEGABYTE, done + count
                        if done // MEGABYTE > before:
                            yield done // MEGABYTE - before
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _counts(events: queue.SimpleQueue[int | Future[None]], jobs: int) -> Iterator[int]:
    """The numbers of bytes that come until all jobs are done; raises the error of one that is not."""
    while jobs:
        event = events.get()
        if isinstance(event, int):
            yield event
        else:
            jobs -= 1
            event.result()


def _safe(name: str, source: S3Path) -> str:
    """A relative name that stays inside the folder it is written to.

    Raises:
        StorageError: it would not.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise StorageError(f"{source}: holds an object named {name!r}, which is no safe file name; rename it")
    return name
