"""Sends files to S3 by boto3's transfer manager: parts in parallel, the SHA-256 of the whole file with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upsnet.errors import StorageError
from upsnet.storage.checksum import has_checksum, is_same, sha256_of
from upsnet.storage.paths import S3Path
from upsnet.storage.retry import patiently
from upsnet.storage.s3 import SHA256, RemoteFile, client, head

PART_BYTES = 16 * 2**20
THREADS = 10

Count = Callable[[int], None]
"""Takes numbers of bytes as they are done; negative when a part is sent again."""


@contextmanager
def transfer_manager() -> Iterator[Any]:
    """boto3's transfer manager, for any number of files at a time; an exception ends what is under way."""
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    config = TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        max_concurrency=THREADS,
        preferred_transfer_client="classic",  # the other one does not know our client's settings
    )
    manager = create_transfer_manager(client(), config)
    try:
        yield manager
    except BaseException:
        manager.shutdown(cancel=True, cancel_msg="the work was ended")
        raise
    manager.shutdown()


def upload(manager: Any, path: Path, target: S3Path, existing: RemoteFile | None, count: Count) -> None:
    """Sends one file, unless S3 has the same already; the object appears whole or not at all.

    Args:
        manager: of `transfer_manager`.
        path: the file, which nobody changes meanwhile.
        target: where to.
        existing: what `list_files` or `head` found there, None for nothing.
        count: is told of the bytes.

    Raises:
        StorageError: it cannot be sent, or S3 has something else afterwards.
        FileNotFoundError: the file is gone.
    """
    size = path.stat().st_size
    if existing is not None and existing.size == size:
        there = head(target)
        if there is not None and has_checksum(there) and is_same(path, there):
            count(size)
            return
    sent, digest = _Progress(count), sha256_of(path)

    def send() -> None:
        extra = {"Metadata": {SHA256: digest}}
        manager.upload(str(path), target.bucket, target.key, extra_args=extra, subscribers=[sent]).result()

    patiently(target, send, on_retry=sent.take_back)
    if size >= PART_BYTES:  # S3 has put it together from parts
        _refuse_incomplete(target, size, digest)


def _refuse_incomplete(target: S3Path, size: int, digest: str) -> None:
    stored = head(target)
    if stored is None:
        raise StorageError(
            f"{target}: was sent and is gone; does anything delete there? Run the command again"
        )
    if stored.size != size or stored.sha256 not in ("", digest):  # a server may keep no metadata
        raise StorageError(
            f"{target}: was sent, but S3 has other {stored.size} bytes now, expected {size}; make sure that "
            "nothing else writes there, and run the command again"
        )


class _Progress:
    """What s3transfer calls a subscriber."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._done = 0

    def on_queued(self, future: Any, **_: Any) -> None: ...

    def on_done(self, future: Any, **_: Any) -> None: ...

    def on_progress(self, future: Any, bytes_transferred: int, **_: Any) -> None:
        self._done += bytes_transferred
        self._count(bytes_transferred)

    def take_back(self) -> None:
        """Before the file is sent again."""
        self._count(-self._done)
        self._done = 0
