"""Follows an MPIJob to its end: its launcher's log, and what it waits for while there is none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from components.launchers import state
from components.launchers.cluster import Cluster, Resource
from components.launchers.job import LaunchError, TrainingJob
from components.launchers.logs import PodLog
from components.launchers.settings import LauncherSettings

logger = logging.getLogger(__name__)

BAD_INPUT = 2
"""Exit code of `upsnet` for what no further attempt would change."""


class Following:
    """One job on its way.

    Args:
        mpijob: as it was created or adopted.
        pause: sleeps between two looks, and may raise to end the work.
    """

    def __init__(
        self,
        cluster: Cluster,
        mpijob: Resource,
        job: TrainingJob,
        settings: LauncherSettings,
        pause: Callable[[float], None],
    ) -> None:
        self._cluster = cluster
        self._name, self._uid = mpijob["metadata"]["name"], mpijob["metadata"]["uid"]
        self._job = job
        self._settings = settings
        self._pause = pause
        self._pods: list[Resource] = []
        self._log: PodLog | None = None
        self._attempts: set[str] = set()
        self._last_running = time.monotonic()
        self._said = ""

    def to_the_end(self) -> None:
        """Returns when the job has succeeded.

        Raises:
            LaunchError: it failed, does not start, took too long, or was deleted.
        """
        deadline = time.monotonic() + self._job.timeout_s
        try:
            while not self._look():
                if time.monotonic() > deadline:
                    raise self._failure(f"not done after {self._job.timeout_s} s; it was {self._said}")
                self._pause(self._settings.poll_s)
        finally:
            if self._log is not None:
                self._log.close()

    def _look(self) -> bool:
        """One look at everything; True when the job has succeeded."""
        mpijob = self._cluster.get(self._name)
        if (
            mpijob is None
            or mpijob["metadata"]["uid"] != self._uid
            or "deletionTimestamp" in mpijob["metadata"]
        ):
            raise self._failure("was deleted by somebody else, such as 'python -m pipelines.cancel'")
        self._pods = self._cluster.pods(self._name)
        self._follow_log()
        if state.condition(mpijob, "Succeeded"):
            self._finish_log()
            return True
        if failed := state.condition(mpijob, "Failed"):
            raise self._failure(f"failed ({failed.get('reason', '')}: {failed.get('message', '')})")
        last = self._last_end()
        if last is not None and last.exit_code == BAD_INPUT:
            raise self._failure("refused its input, so no further attempt is made")
        self._check_running(mpijob)
        return False

    def _follow_log(self) -> None:
        """Every attempt is a launcher pod of its own."""
        for pod in state.launcher_pods(self._pods):
            name = pod["metadata"]["name"]
            if name in self._attempts or not state.has_started(pod):
                continue
            self._finish_log()
            self._attempts.add(name)
            logger.info("launcher pod %s (attempt %d), its log:", name, len(self._attempts))
            self._log = PodLog(name, self._cluster.log, self._settings)

    def _check_running(self, mpijob: Resource) -> None:
        """Says why no ranks run, and gives up when that lasts for `start_timeout_s`."""
        launchers = state.launcher_pods(self._pods)
        workers = state.worker_pods(self._pods)
        if launchers and state.is_running(launchers[-1]):
            self._last_running = time.monotonic()
            ready = sum(map(state.is_ready, workers))
            self._say(f"running, {ready} of {self._job.workers} workers ready")
            return
        events = self._cluster.warnings()
        if (fault := state.invalid(mpijob, events)) is not None:
            raise self._failure(f"the operator refuses it: {fault}")
        self._say("waiting: " + "; ".join(state.waiting_reasons(mpijob, self._pods, events)))
        if time.monotonic() - self._last_running > self._job.start_timeout_s:
            raise self._failure(f"no ranks ran for {self._job.start_timeout_s} s; it was {self._said}")

    def _say(self, text: str) -> None:
        """Logs what has changed."""
        if text != self._said:
            self._said = text
            logger.info("MPIJob %s: %s", self._name, text)

    def _finish_log(self) -> None:
        if self._log is not None:
            self._log.finish()

    def _last_end(self) -> state.Ended | None:
        """How the newest attempt ended."""
        launchers = state.launcher_pods(self._pods)
        return state.ended(launchers[-1]) if launchers else None

    def _failure(self, what: str) -> LaunchError:
        """The error of the whole, with everything that explains it."""
        last = self._last_end()
        parts = [f"MPIJob {self._name}: {what}"]
        if last is not None:
            self._finish_log()
            reason = f" ({last.reason})" if last.reason else ""
            parts.append(f"launcher pod {last.pod} ended with exit code {last.exit_code}{reason}")
        parts += state.worker_faults(self._pods)
        tail = "\n".join(self._log.tail) if self._log is not None else ""
        code = last.exit_code if last is not None else None
        return LaunchError("; ".join(parts), exit_code=code, log_tail=tail)
