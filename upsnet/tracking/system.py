"""CPU, memory, disk, network and GPU of the machine over time, by MLflow's own monitors.

MLflow's thread would speak to the server itself, and end with its first refusal; so only its monitors are
used, and the figures go through `system.jsonl` like all others.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from upsnet.tracking.connection import tracking_uri
from upsnet.tracking.points import append_line

logger = logging.getLogger(__name__)

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
"""Environment variable; `false` leaves these figures out."""


class SystemFigures:
    """Writes the machine's figures into a log until it is closed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        monitor = _monitor()
        if monitor is not None:
            self._thread = threading.Thread(
                target=self._work, args=(monitor,), name="upsnet-system", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)

    def _work(self, monitor: Any) -> None:
        step = self._log.read_bytes().count(b"\n") if self._log.is_file() else 0
        while not self._ending.wait(monitor.sampling_interval):
            try:
                monitor.collect_metrics()
                values = {f"system/{name}": float(v) for name, v in monitor.aggregate_metrics().items()}
                for part in monitor.monitors:
                    part.clear_metrics()
                append_line(self._log, values, step)
            except Exception:  # a driver that fails must not end the training
                logger.debug("no figures of the machine", exc_info=True)
                return
            step += 1


def _monitor() -> Any:
    """MLflow's monitors, None where they are switched off or cannot be had."""
    if os.environ.get(SWITCH, "").lower() == "false":
        return None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        make: Any = SystemMetricsMonitor
        return make("", tracking_uri=tracking_uri())
    except Exception:
        logger.debug("no figures of the machine", exc_info=True)
        return None
