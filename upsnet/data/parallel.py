"""Reads the images of a source in worker processes, and yields the results in order.

The results do not depend on the number of workers. A few images per worker are in memory, never the data set.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from upsnet.data.shards import SplitName
from upsnet.data.sources import Reading, Source
from upsnet.data.worker_life import live_with_parent
from upsnet.errors import DataError

READ_AHEAD = 4
"""Images per worker that may wait for being taken."""

T = TypeVar("T")


class OverImages(Protocol):
    """Calls `work(source, split, image_id)` for every image, in the workers.

    `work` is a named function; `together` images go to a worker at once, which matters for quick work.
    """

    def __call__(
        self,
        work: Callable[[Source, SplitName, int], T],
        split: SplitName,
        ids: Sequence[int],
        together: int = 1,
    ) -> Iterator[T]: ...


def read_image(source: Source, split: SplitName, image_id: int) -> Reading:
    """The usual work: reads and checks one image."""
    return source.read(split, image_id)


@contextmanager
def workers(source: Source, processes: int | None) -> Iterator[OverImages]:
    """Yields a function that does something with the images of a split, in parallel and in order.

    Args:
        source: sent to the workers once.
        processes: workers; by default one per core that this process may use.

    Raises:
        DataError: a worker died.
    """
    count = processes or len(os.sched_getaffinity(0))
    if count == 1:
        yield lambda work, split, ids, together=1: (work(source, split, image_id) for image_id in ids)
        return
    # Forked workers share the annotations' memory.
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(source,))
    try:
        pool.submit(int)  # forks the workers now, before the progress bar starts its thread
        yield lambda work, split, ids, together=1: _in_order(
            pool, work, split, _groups(ids, together), count * READ_AHEAD
        )
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, most often for lack of memory; try fewer with --processes 1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _groups(ids: Sequence[int], together: int) -> Iterator[Sequence[int]]:
    return (ids[start : start + together] for start in range(0, len(ids), together))


def _in_order(
    pool: ProcessPoolExecutor,
    work: Callable[[Source, SplitName, int], T],
    split: SplitName,
    groups: Iterator[Sequence[int]],
    ahead: int,
) -> Iterator[T]:
    pending: deque[Future[list[T]]] = deque()
    for ids in groups:
        pending.append(pool.submit(_call, work, split, ids))
        if len(pending) >= ahead:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


_source: Source | None = None
"""Source of this worker process."""


def _begin_worker(source: Source) -> None:
    global _source
    _source = source
    live_with_parent()


def _call(work: Callable[[Source, SplitName, int], T], split: SplitName, ids: Sequence[int]) -> list[T]:
    assert _source is not None, "set by _begin_worker"
    return [work(_source, split, image_id) for image_id in ids]
