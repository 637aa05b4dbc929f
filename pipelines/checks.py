"""How preflight checks: each check in a thread of its own with a time limit, so that none stops another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.cluster import ClusterUnreachableError
from upsnet.errors import UpsnetError

Status = Literal["ok", "wrong", "warning", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One row of preflight's table: what was looked at, what was found, and what to do about it."""

    subject: str
    status: Status
    found: str
    remedy: str = ""


NO_CLUSTER = "Kubernetes does not answer"
"""What is found by a check that needs the Kubernetes API where it does not answer."""

Check = tuple[str, Callable[[], list[Finding]]]
"""What is looked at, and the function that looks; it may take long, raise, or never return."""


def run_checks(checks: Sequence[Check], timeout_s: float) -> list[Finding]:
    """Runs all checks at the same time and returns their findings in the order of the checks.

    Args:
        checks: the checks; none may need another.
        timeout_s: how long they may take, together, since all run at once.
    """
    answers: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    for number, check in enumerate(checks):
        threading.Thread(target=_answer, args=(number, check, answers), daemon=True).start()
    findings: dict[int, list[Finding]] = {}
    end = time.monotonic() + timeout_s
    while len(findings) < len(checks):
        try:
            number, found = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        findings[number] = found
    late = f"no answer within {timeout_s:g} s"
    advice = "is the network slow or blocked? --timeout gives it longer"
    return [
        finding
        for number, (subject, _) in enumerate(checks)
        for finding in findings.get(number, [Finding(subject, "wrong", late, advice)])
    ]


def _answer(number: int, check: Check, answers: queue.SimpleQueue[tuple[int, list[Finding]]]) -> None:
    subject, look = check
    try:
        found = look()
    except ClusterUnreachableError as error:
        found = [Finding(subject, "wrong", NO_CLUSTER, str(error))]
    except UpsnetError as error:
        found = [Finding(subject, "wrong", str(error))]
    except Exception as error:  # a fault in one check must not hide what the others found
        found = [Finding(subject, "wrong", f"the check itself failed: {type(error).__name__}: {error}")]
    answers.put((number, found))
