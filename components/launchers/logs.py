"""The log of the launcher pods, printed while it is written; a stream that is cut goes on where it ended."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from components.launchers.settings import LauncherSettings

logger = logging.getLogger(__name__)

STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)
"""A line as the API gives it with timestamps: to the nanosecond, but without the zeros at its end."""
SLACK_S = 10
"""A line may come that much later than it was written."""
KEPT_LINES = 100

Moment = tuple[int, int]
"""Seconds since 1970, and nanoseconds."""


class PodLog:
    """Follows the log of one container in a thread of its own, until it has ended.

    Args:
        stream: opens the log from so many seconds ago, None for all of it; see `Cluster.log`.
    """

    def __init__(
        self, pod: str, stream: Callable[[str, int | None], Iterator[bytes]], settings: LauncherSettings
    ) -> None:
        self.pod = pod
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._stream = stream
        self._settings = settings
        self._ended = threading.Event()
        self._closed = threading.Event()
        self._position: Moment = (0, 0)
        self._at_position = 0
        self._received: float | None = None
        self._refused = False
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"log of {pod}")
        self._thread.start()

    def finish(self) -> None:
        """Prints what an ended container has written, within `log_drain_s`."""
        self._ended.set()
        self._thread.join(self._settings.log_drain_s)
        self.close()

    def close(self) -> None:
        """Prints nothing more."""
        self._closed.set()

    def _follow(self) -> None:
        while not self._closed.is_set():
            last_time = self._ended.is_set()
            try:
                self._take(_lines(self._stream(self.pod, self._since()), last_time))
                if last_time:
                    return
            except ApiException as error:
                self._tell_refusal(error)
                if last_time and error.status in (401, 403, 404):
                    return  # there is no more to be had
            except HTTPError:
                pass  # the stream was cut, or the API server is away, as the launcher's own calls say
            self._ended.wait(self._settings.api_pause_s)
            if self._ended.is_set():
                self._closed.wait(self._settings.api_pause_s)

    def _tell_refusal(self, error: ApiException) -> None:
        if error.status in (401, 403) and not self._refused:
            self._refused = True
            logger.warning("permission denied: this service account may not get pods/log; no log is shown")

    def _since(self) -> int | None:
        """How far back to ask for: a bit more than what is missing."""
        if self._received is None:
            return None
        return math.ceil(time.monotonic() - self._received) + SLACK_S

    def _take(self, lines: Iterable[str]) -> None:
        """Prints the lines that have not been printed yet."""
        replayed, same = self._received is not None, self._at_position
        for line in lines:
            if self._closed.is_set():
                return
            moment, text = _parse(line)
            if replayed and moment is not None:
                if moment < self._position:
                    continue
                if moment == self._position and same > 0:
                    same -= 1
                    continue
                replayed = False
            self._print(moment, text)

    def _print(self, moment: Moment | None, text: str) -> None:
        if moment is not None:
            self._at_position = self._at_position + 1 if moment == self._position else 1
            self._position = moment
        self._received = time.monotonic()
        self.tail.append(text)
        print(text, flush=True)


def _lines(pieces: Iterator[bytes], to_the_end: bool) -> Iterator[str]:
    """Whole lines; half a line at the end only if nothing more will come."""
    rest = b""
    for piece in pieces:
        *complete, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in complete)
    if rest and to_the_end:
        yield rest.decode(errors="replace")


def _parse(line: str) -> tuple[Moment | None, str]:
    """When a line was written, and its text; some lines of the API server itself have no time."""
    match = STAMPED.fullmatch(line)
    if match is None:
        return None, line
    seconds, fraction, zone, text = match.groups()
    moment = datetime.fromisoformat(seconds + zone.replace("Z", "+00:00"))
    return (int(moment.timestamp()), int((fraction or "").ljust(9, "0"))), text
