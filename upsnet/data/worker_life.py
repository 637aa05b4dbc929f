"""What every worker process does first: it leaves Ctrl-C to the main process, and ends with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def live_with_parent() -> None:
    """Ctrl-C reaches all processes of a terminal, but the main one stops its workers, in order.

    A killed main process cannot: its workers would wait for work forever, so they watch it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
