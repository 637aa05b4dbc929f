"""Runs the cases, each in a process of its own, so that every one has its own peak of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

from upsnet.errors import UpsnetError
from upsnet.evaluation.benchmark.cases import Case
from upsnet.evaluation.benchmark.measure import Measurement, measure
from upsnet.progress import show_progress


def run_cases(cases: Sequence[Case]) -> list[Measurement]:
    """Measures all cases, one after the other, and shows the progress.

    Raises:
        UpsnetError: a process ended early.
    """
    rows: list[Measurement] = []
    total = sum(_weight(case) * case.repeats.all for case in cases)
    for _ in show_progress(_network_runs(cases, rows), total, "benchmark", _weight):
        pass
    return rows


def _network_runs(cases: Sequence[Case], rows: list[Measurement]) -> Iterator[Case]:
    """Fills `rows`; yields the case after every run of its network."""
    for case in cases:
        for message in _messages(case):
            if message is None:
                yield case
            else:
                rows += message


def _weight(case: Case) -> int:
    """Of one network run, so that the time left is about right where the sizes differ."""
    return 1 + round(case.gflops)


def _messages(case: Case) -> Iterator[list[Measurement] | None]:
    """None after every network run of the case, its rows at the end."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_and_send, args=(case, sender), daemon=True)
    process.start()
    sender.close()  # the process has its own; with this one open, its end would go unnoticed
    message: list[Measurement] | None = None
    try:
        while message is None:
            message = receiver.recv()
            yield message
    except EOFError as error:
        process.join()
        raise UpsnetError(
            f"benchmark of {case.title()}: its process ended early with exit code {process.exitcode} "
            "(-9: most likely the memory ran out); leave that size out with --sizes, or free memory"
        ) from error
    finally:
        process.join()


def _measure_and_send(case: Case, sender: Connection) -> None:
    sender.send(measure(case, lambda: sender.send(None)))
