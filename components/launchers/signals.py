"""Turns SIGTERM and SIGINT into an orderly end: the work stops at its next pause, and cleans up."""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """While entered, a first SIGTERM or SIGINT ends `pause` with SystemExit, and further ones do nothing.

    The handlers raise nothing themselves, so that no request is cut in the middle and no clean-up is
    interrupted. Outside of the main thread, where Python allows no handlers, it only pauses.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._read_end, self._write_end = os.pipe()  # a threading.Event may not be set from a handler
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._read_end)
        os.close(self._write_end)

    def pause(self, seconds: float) -> None:
        """Sleeps, or raises SystemExit with 128 + the signal's number as soon as there was one."""
        select.select([self._read_end], [], [], seconds)
        if self.received is not None:
            raise SystemExit(128 + self.received)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            os.write(self._write_end, b"x")
