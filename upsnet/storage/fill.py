"""Fills the cache ahead of need, in a process of its own: it takes no time from a training and ends with it.

`python -m upsnet.storage.fill` reads one line of JSON: the objects, first needed first. It ends when they are
here, when the next one would pass the cache's limit, or with its parent, whatever ended that.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from upsnet.errors import StorageError
from upsnet.storage.cache import cache
from upsnet.storage.paths import parse_s3
from upsnet.storage.s3 import RemoteFile

logger = logging.getLogger(__name__)

GRACE_S = 5.0


@contextmanager
def filling_cache(files: Sequence[RemoteFile]) -> Iterator[None]:
    """Fetches objects into the cache during the block; what is not here at its end may stay away."""
    if not files:
        yield
        return
    total, limit = sum(file.size for file in files), cache().limit
    if total > limit:
        logger.warning(
            "the data have %.1f GB, the cache takes %.1f: what is not in it is read from S3 each time; "
            "UPSNET_CACHE_GB makes it larger",
            *(total / 10**9, limit / 10**9),
        )
    line = json.dumps([{**dataclasses.asdict(file), "path": str(file.path)} for file in files])
    process = subprocess.Popen(
        [sys.executable, "-m", "upsnet.storage.fill"],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):  # without it everything goes on, only slower
            process.stdin.write(line + "\n")
            process.stdin.flush()
        yield
    finally:
        process.kill()  # a half object stays a `.part`, which the next one goes on with
        process.wait(GRACE_S)
        with suppress(BrokenPipeError):
            process.stdin.close()


def fill(files: Sequence[RemoteFile]) -> None:
    """Fetches objects in order, as far as the cache's limit goes.

    Raises:
        StorageError: one cannot be had.
    """
    target, total = cache(), 0
    for file in files:
        total += file.size
        if total > target.limit:
            return
        target.file(file, quiet=True)


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    entries = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        fill([RemoteFile(**{**entry, "path": parse_s3(entry["path"])}) for entry in entries])
    except StorageError as error:
        logger.warning("the cache is not filled further, records are read from S3 one by one: %s", error)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
