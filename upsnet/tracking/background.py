"""Sends in a thread beside the work, which never waits for MLflow but at its start and its end.

The waits are bounded. At the start: one try to open the run, a few requests of at most 10 seconds each
(`MLFLOW_HTTP_REQUEST_TIMEOUT`). In between: none. At the end: one last try, at most `CLOSE_SECONDS`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import IO

from upsnet.tracking.connection import tracking_place
from upsnet.tracking.names import short_cause
from upsnet.tracking.outbox import Outbox
from upsnet.tracking.sender import Sender

logger = logging.getLogger(__name__)

SEND_SECONDS = 5.0
"""Between two batches."""
LONGEST_PAUSE_SECONDS = 60.0
"""Between two tries while MLflow does not answer; they grow from `SEND_SECONDS`, each to twice the last."""
CLOSE_SECONDS = 60.0
"""At the end of the work, for what is left to send."""


class BackgroundSender:
    """Sends what comes into an outbox until it is closed.

    Args:
        outbox: with its journal written.
        lock: the right to send, given back at the end; None if another process has it: nothing is sent.
    """

    def __init__(self, outbox: Outbox, lock: IO[str] | None) -> None:
        self._outbox = outbox
        self._lock = lock
        self._sender = Sender(outbox, running=True) if lock is not None else None
        self._warned = False
        self._pause = SEND_SECONDS
        self._wanted = threading.Event()
        self._rounds = threading.Condition()
        self._asked = self._finished = 0
        self._closing = False
        self._thread: threading.Thread | None = None
        if self._sender is None:
            self._warn("another process is sending for this folder")
        else:
            self._try(self._sender.open)

    @property
    def run_id(self) -> str | None:
        """Of the MLflow run, None until it is opened."""
        return self._sender.run_id if self._sender else None

    @property
    def started(self) -> bool:
        """Whether anything may have been sent."""
        return self._thread is not None

    def begin(self, made_of: str) -> None:
        """Says, before the start, that a training begins, of settings and data with this hash."""
        if self._sender is not None:
            self._sender.begin(made_of)

    def start(self) -> None:
        """Begins to send; a second call does nothing."""
        if self._sender is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="upsnet-mlflow", daemon=True)
            self._thread.start()

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Tries at once to send what is there; whether MLflow has all of it."""
        self.start()
        if self._thread is not None and self._thread.is_alive():
            with self._rounds:
                self._asked += 1
                wanted = self._asked
                self._wanted.set()
                self._rounds.wait_for(lambda: self._finished >= wanted, seconds)
        return self._outbox.unsent() == 0

    def close(self) -> None:
        """Tries a last time to send, and ends the thread."""
        self._closing = True
        if not self.flush() and not self._warned:
            self._warn(f"it took longer than {CLOSE_SECONDS:.0f} s")
        if self._thread is not None:
            self._thread.join(1)
        if self._lock is not None and (self._thread is None or not self._thread.is_alive()):
            self._lock.close()

    def _work(self) -> None:
        assert self._sender is not None
        while True:
            self._wanted.wait(self._pause)
            self._wanted.clear()
            asked, closing = self._asked, self._closing
            self._try(self._sender.send)
            with self._rounds:
                self._finished = asked
                self._rounds.notify_all()
            if closing:
                break

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever MLflow raises must not end the thread, nor the training
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._warn(short_cause(error))
        else:
            self._pause = SEND_SECONDS

    def _warn(self, why: str) -> None:
        """Says once that figures wait."""
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "MLflow at %s cannot be used now (%s). The work goes on; what it misses is kept in %s, and sent "
            "when it answers, or by 'upsnet sync %s'",
            *(tracking_place(), why, self._outbox.place, self._outbox.place),
        )
