"""Shows how far a long loop is: a bar with the time left on a terminal, now and then a log line elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")

LOG_INTERVAL = 10.0
"""Seconds between two log lines where there is no terminal."""

log = logging.getLogger(__name__)


def show_progress(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yields `items`, of which there are `total`, and shows the progress on the error stream."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, description, total, console=console, transient=True)
    else:
        yield from _logged(items, total, description)


def _logged(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    started = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_INTERVAL:
            last = now
            left = (now - started) / done * (total - done)
            log.info("%s: %d of %d, %.0f s left", description, done, total, left)
