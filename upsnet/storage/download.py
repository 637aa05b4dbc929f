"""Fetches objects from S3: never a half file under its name, and large ones go on where they stopped.

A small object is fetched by boto3's transfer manager. A large one comes in pieces, into `<name>.part` beside
its place; `<name>.part.json` says which pieces are there and of which version (ETag) of the object. All
requests say If-Match, and the whole file is compared with the object's checksum before it gets its name.
"""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from upsnet.errors import StorageError
from upsnet.storage.checksum import is_same
from upsnet.storage.errors import explain
from upsnet.storage.files import write_file
from upsnet.storage.retry import patiently
from upsnet.storage.s3 import RemoteFile, changed, get_range, head
from upsnet.storage.upload import Count

PIECE_BYTES = 16 * 2**20
IN_PIECES_FROM = 2 * PIECE_BYTES
PIECES_AT_ONCE = 4
"""Of one object; times the files at once it is what the client keeps connections for."""


def download(manager: Any, remote: RemoteFile, path: Path, count: Count) -> None:
    """Fetches one object, unless the file is there already.

    Args:
        manager: of `transfer_manager`.
        remote: as `head` found it.
        path: the file; the folders above it are made.
        count: is told of the bytes.

    Raises:
        StorageError: it cannot be had, changed meanwhile, arrived damaged twice, or the disk is full.
    """
    if is_same(path, remote):
        count(remote.size)
        return
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            _fetch(manager, remote, part, count)
            if is_same(part, remote):
                break
            _discard(part)
            _refuse_changed(remote)
            if last:
                raise StorageError(f"{remote.path}: is damaged, its checksum differs; upload it again")
            count(-remote.size)
        os.utime(part, (remote.modified, remote.modified))
        part.replace(path)
        _state_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, remote.path) from error


def _fetch(manager: Any, remote: RemoteFile, part: Path, count: Count) -> None:
    """Fills `part`; what an earlier process left there of the same version is kept."""
    if remote.size >= IN_PIECES_FROM:
        _Pieces(remote, part, count).fetch()
        return
    _discard(part)

    def receive() -> None:
        future = manager.download(
            remote.path.bucket, remote.path.key, str(part), subscribers=[_Known(remote)]
        )
        future.result()

    patiently(remote.path, receive)
    count(remote.size)


class _Known:
    """Tells s3transfer what HEAD said, so that it need not ask again and says If-Match."""

    def __init__(self, remote: RemoteFile) -> None:
        self._remote = remote

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._remote.size)
        future.meta.provide_object_etag(self._remote.if_match)

    def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None: ...

    def on_done(self, future: Any, **_: Any) -> None: ...


class _Pieces:
    """A large object on its way."""

    def __init__(self, remote: RemoteFile, part: Path, count: Count) -> None:
        self._remote = remote
        self._part = part
        self._count = count
        self._done = _pieces_there(part, remote)
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Fetches what is missing, several pieces at a time."""
        if not self._done:
            with self._part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._remote.size)  # a full disk says so now
        numbers = range(-(-self._remote.size // PIECE_BYTES))
        missing = [number for number in numbers if number not in self._done]
        self._count(sum(self._length(number) for number in self._done))
        pool = ThreadPoolExecutor(PIECES_AT_ONCE)
        try:
            for _ in pool.map(self._fetch_piece, missing):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def _fetch_piece(self, number: int) -> None:
        begin, length = number * PIECE_BYTES, self._length(number)

        def receive() -> None:
            with self._part.open("r+b") as file:
                file.seek(begin)
                for chunk in get_range(self._remote, begin, length):
                    file.write(chunk)

        patiently(self._remote.path, receive)
        with self._lock:
            self._done.add(number)
            write_file(_state(self._remote, self._done), _state_file(self._part))
        self._count(length)

    def _length(self, number: int) -> int:
        return min(PIECE_BYTES, self._remote.size - number * PIECE_BYTES)


def _pieces_there(part: Path, remote: RemoteFile) -> set[int]:
    """Numbers of the pieces of this version in `part`."""
    try:
        state = json.loads(_state_file(part).read_text(encoding="utf-8"))
        done = set(map(int, state.pop("done")))
        return done if state == _version(remote) and part.stat().st_size == remote.size else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _version(remote: RemoteFile) -> dict[str, Any]:
    return {"object": str(remote.path), "etag": remote.etag, "bytes": remote.size, "piece_bytes": PIECE_BYTES}


def _state(remote: RemoteFile, done: set[int]) -> str:
    return json.dumps({**_version(remote), "done": sorted(done)})


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _refuse_changed(remote: RemoteFile) -> None:
    now = head(remote.path)
    if now is None or now.etag != remote.etag:
        raise changed(remote.path)
