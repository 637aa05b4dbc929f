"""Goes on trying where boto3 gives up: a server that is away for minutes ends no training and no upload."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from upsnet.errors import StorageError
from upsnet.storage.errors import explain, is_nobody_there, is_passing
from upsnet.storage.paths import S3Path

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long one request is tried without success; UPSNET_S3_PATIENCE_S goes before it."""
LONGEST_PAUSE_S = 15.0

logger = logging.getLogger(__name__)
_reached = threading.Event()


def patiently(path: S3Path, ask: Callable[[], T], *, on_retry: Callable[[], None] = lambda: None) -> T:
    """The result of `ask`, which is called again after errors that may pass, with back-off and jitter.

    Where nobody answers at all, and never did, it gives up at once: that is a wrong address.

    Args:
        path: what it is about, for the message.
        ask: raises boto3's errors; a StorageError goes through.
        on_retry: called before each further try.

    Raises:
        StorageError: the one message for the error that stays.
    """
    deadline = time.monotonic() + patience_s()
    for attempt in count():
        try:
            result = ask()
        except StorageError:
            raise
        except Exception as error:
            hopeless = not is_passing(error) or (is_nobody_there(error) and not _reached.is_set())
            if hopeless or time.monotonic() >= deadline:
                raise explain(error, path) from error
            if attempt == 0:
                logger.warning("%s: trying again: %s", path, first_line(error))
        else:
            _reached.set()
            return result
        pause = min(LONGEST_PAUSE_S, 0.5 * 2 ** min(attempt, 10), max(0.1, deadline - time.monotonic()))
        time.sleep(random.uniform(pause / 2, pause))
        on_retry()
    raise AssertionError("unreachable")


def patience_s() -> float:
    """Seconds.

    Raises:
        StorageError: UPSNET_S3_PATIENCE_S is no number.
    """
    text = os.environ.get("UPSNET_S3_PATIENCE_S", "")
    try:
        return float(text) if text else PATIENCE_S
    except ValueError as error:
        raise StorageError(f"UPSNET_S3_PATIENCE_S is {text!r}; expected seconds, such as 300") from error


def first_line(error: BaseException) -> str:
    """An error as one short line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
