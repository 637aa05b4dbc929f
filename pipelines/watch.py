"""Waiting for a run: its steps as a live table on a terminal, one line per change elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipelines.client import PipelinesClient, Run, UnreachableError
from upsnet.errors import UpsnetError

SILENCE_S = 300.0
"""How long Kubeflow Pipelines may not answer before waiting for it makes no sense."""

STYLES = {"succeeded": "green", "failed": "bold red", "running": "cyan", "canceled": "yellow"}


class WaitError(UpsnetError):
    """The run has not ended within the time that was given, or nobody answers any more."""


def wait_for_run(
    client: PipelinesClient,
    run_id: str,
    steps: Sequence[str],
    console: Console,
    *,
    interval_s: float,
    timeout_s: float,
    silence_s: float = SILENCE_S,
) -> Run:
    """Shows the steps of a run until it has ended, and returns it.

    A server that does not answer for a while (a port-forward that broke, an upgrade) does not end the wait.

    Args:
        client: where the run is.
        run_id: which run.
        steps: names of its steps, in order; steps of a fan-out have one name and are counted.
        console: where to show them.
        interval_s: pause between two looks.
        timeout_s: longest wait in all.
        silence_s: longest wait for an answer.

    Raises:
        WaitError: one of the two waits was too long. The run goes on.
    """
    start = heard = time.monotonic()
    with _display(console, steps) as show:
        while True:
            run = _look(client, run_id)
            now = time.monotonic()
            if isinstance(run, Run):
                heard = now
                show(run)
                if run.ended:
                    return run
            elif now - heard > silence_s:
                raise WaitError(f"stopped waiting, the run may go on: {run}")
            if now - start > timeout_s:
                raise WaitError(f"stopped waiting after {timeout_s:g} s; the run goes on")
            time.sleep(interval_s)


def _look(client: PipelinesClient, run_id: str) -> Run | UnreachableError:
    try:
        return client.run(run_id)
    except UnreachableError as error:
        return error


def step_states(run: Run, steps: Sequence[str]) -> dict[str, str]:
    """What each step does, in words; Kubeflow's own drivers and executors are left out.

    A step with several tasks (a fan-out) says how many are in which state, such as `2 succeeded, 1 running`.
    """
    states: dict[str, Counter[str]] = {name: Counter() for name in steps}
    for name, state in run.tasks:
        if name in states:
            states[name][_word(state)] += 1
    return {name: _describe(counts) for name, counts in states.items()}


def _word(state: str) -> str:
    return "waiting" if state in ("", "RUNTIME_STATE_UNSPECIFIED", "PENDING") else state.lower()


def _describe(counts: Counter[str]) -> str:
    if not counts:
        return "waiting"
    if counts.total() == 1:
        return next(iter(counts))
    return ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))


@contextmanager
def _display(console: Console, steps: Sequence[str]) -> Iterator[Callable[[Run], None]]:
    """Gives the function that shows a run."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda run: live.update(_table(_all_states(run, steps)), refresh=True)
        return
    shown: dict[str, str] = {}

    def show(run: Run) -> None:
        for name, state in _all_states(run, steps).items():
            if state != shown.get(name, "waiting"):
                console.print(f"{time.strftime('%H:%M:%S')}  {name}: {state}", highlight=False, markup=False)
            shown[name] = state

    yield show


def _all_states(run: Run, steps: Sequence[str]) -> dict[str, str]:
    return {**step_states(run, steps), "run": _word(run.state)}


def _table(states: dict[str, str]) -> Table:
    table = Table("step", "state")
    for name, state in states.items():
        table.add_row(name, state, style=STYLES.get(state, ""))
    return table
