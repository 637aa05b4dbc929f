"""Shows how far a long loop is: a bar with the time left on a terminal, now and then a log line elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

LOG_INTERVAL = 10.0
"""Seconds between two log lines where there is no terminal."""

SPEED_PERIOD = 300.0
"""Seconds over which the bar averages the speed; items may take half a minute each."""

log = logging.getLogger(__name__)


def show_progress(
    items: Iterable[T], total: int, description: str, weight: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """Yields `items` and shows the progress on the error stream.

    Args:
        items: the work.
        total: number of the items, or the sum of their weights.
        description: what is done.
        weight: how much of the work an item is.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _logged(items, total, description, weight)
        return
    with Progress(console=console, transient=True, speed_estimate_period=SPEED_PERIOD) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task, weight(item))


def _logged(items: Iterable[T], total: int, description: str, weight: Callable[[T], int]) -> Iterator[T]:
    started = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += weight(item)
        now = time.monotonic()
        if now - last >= LOG_INTERVAL:
            last = now
            left = (now - started) / done * (total - done)
            log.info("%s: %d of %d, %.0f s left", description, done, total, left)
