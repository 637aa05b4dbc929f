"""Copies of S3 objects on this machine, shared by its processes, with a limit of size.

UPSNET_CACHE is its folder (default: `upsnet` in the user's cache folder), UPSNET_CACHE_GB its limit. Below it
    entries/<id>/<name>   an object (of one ETag), or a folder
    locks/<id>.fill       held by the process that fetches the entry, so that it is fetched once per machine
    locks/<id>.used       held by the processes that must not lose it
What was used least recently goes first. An entry's id stands for server, path and, of an object, its ETag.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from upsnet.errors import StorageError
from upsnet.storage.errors import DISK_FULL
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import RemoteFile, endpoint
from upsnet.storage.transfer import download_file, download_folder

DEFAULT_GB = 50.0
TOUCH_EVERY_S = 30.0
"""How exactly the cache knows when an entry was used."""


class Cache:
    """A folder of copies.

    Args:
        root: the folder, which is made when it is needed.
        limit: bytes; an entry that is being fetched may pass it where the others are in use.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit
        self._held: dict[str, IO[str]] = {}
        self._touched: dict[str, float] = {}

    def find(self, entry: str, name: str) -> Path | None:
        """The file of an entry, None if it is not here; it may go again at any time."""
        path = self._entry(entry) / name
        if not path.exists():
            return None
        if time.monotonic() - self._touched.get(entry, -TOUCH_EVERY_S) >= TOUCH_EVERY_S:
            self._touch(entry)
        return path

    def file(self, remote: RemoteFile, *, hold: bool = False, quiet: bool = False) -> Path:
        """The copy of an object, which is fetched if it is not here.

        Args:
            remote: as `head` found it.
            hold: nothing removes it before this process ends.
            quiet: without progress.

        Raises:
            StorageError: it cannot be had, or the disk is full.
        """
        entry = entry_of(remote)
        if hold:
            self._hold(entry)
        path = self._entry(entry) / remote.path.name
        with self._locked(f"{entry}.fill"):
            if not path.exists():
                self.make_room(remote.size)
                download_file(remote, path, quiet=quiet)
            self._touch(entry)
        return path

    def folder(self, source: S3Path, wanted: Callable[[str], bool] = lambda _: True) -> Path:
        """A folder with the objects below `source` as they are now; it stays until this process ends.

        Args:
            source: the folder in S3.
            wanted: by relative name; others that were fetched before may be there, too.

        Raises:
            StorageError: there is none of them, something cannot be had, or the disk is full.
        """
        entry = _digest(endpoint(), str(source))
        self._hold(entry)
        path = self._entry(entry) / source.name
        with self._locked(f"{entry}.fill"):
            self.make_room(0)
            names = download_folder(source, path, wanted=wanted)
            _remove_others(path, wanted, set(names))
            if not names:
                raise StorageError(f"{source}: there is nothing of what is expected there; check the address")
            self._touch(entry)
        return path

    def make_room(self, size: int) -> None:
        """Removes what was not used for longest until `size` bytes more are within the limit."""
        with self._locked("evict"):
            entries = {entry: _bytes_in(entry) for entry in self._entries()}
            total = sum(entries.values()) + size
            for entry, its_size in entries.items():
                if total <= self.limit:
                    return
                if self._remove(entry):
                    total -= its_size

    def _entries(self) -> list[Path]:
        """Least recently used first."""
        folder = self.root / "entries"
        found = list(folder.iterdir()) if folder.is_dir() else []
        return sorted(found, key=lambda entry: entry.stat().st_mtime_ns)

    def _remove(self, entry: Path) -> bool:
        """Whether nobody uses or fetches it, so that it could be removed."""
        with self._try_lock(f"{entry.name}.used") as unused, self._try_lock(f"{entry.name}.fill") as idle:
            if unused and idle:
                shutil.rmtree(entry, ignore_errors=True)
            return unused and idle

    def _entry(self, entry: str) -> Path:
        return self.root / "entries" / entry

    def _touch(self, entry: str) -> None:
        self._touched[entry] = time.monotonic()
        with suppress(OSError):  # it may just have gone
            os.utime(self._entry(entry))

    def _hold(self, entry: str) -> None:
        if entry not in self._held:
            self._held[entry] = self._open_lock(f"{entry}.used")
            fcntl.flock(self._held[entry], fcntl.LOCK_SH)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with self._open_lock(name) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _try_lock(self, name: str) -> Iterator[bool]:
        with self._open_lock(name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _open_lock(self, name: str) -> IO[str]:
        path = self.root / "locks" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("w", encoding="utf-8")
        except OSError as error:
            why = "the disk is full" if error.errno in DISK_FULL else error.strerror
            raise StorageError(
                f"{self.root}: cannot be used as cache ({why}); set UPSNET_CACHE to another folder"
            ) from error


def entry_of(remote: RemoteFile) -> str:
    """Id of the copy of an object."""
    return _digest(endpoint(), str(remote.path), remote.etag)


def cache() -> Cache:
    """The cache that the environment names.

    Raises:
        StorageError: UPSNET_CACHE_GB is no size.
    """
    text = os.environ.get("UPSNET_CACHE_GB", "") or str(DEFAULT_GB)
    try:
        limit = round(float(text) * 10**9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise StorageError(f"UPSNET_CACHE_GB is {text!r}; expected gigabytes, such as 50")
    return _opened(cache_root(), limit)


def cache_root() -> Path:
    """The folder of the cache."""
    given = os.environ.get("UPSNET_CACHE", "")
    users = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if given else (Path(users) if users else Path.home() / ".cache") / "upsnet"


@functools.lru_cache(maxsize=4)
def _opened(root: Path, limit: int) -> Cache:
    """One per process, since it holds entries."""
    return Cache(root.absolute(), limit)


def _remove_others(folder: Path, wanted: Callable[[str], bool], names: Container[str]) -> None:
    """Removes what is no longer in S3."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and wanted(name) and name not in names:
            path.unlink()


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # files come and go meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
