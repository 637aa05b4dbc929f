"""The launcher for a cluster: makes an MPIJob, follows it to its end, and takes it away in every case.

Killed in the middle, it leaves the rest to others: the ownerReference to the step's pod, the job's deadline,
and the reaper (`components.launchers.reap`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping

from components.launchers import naming, state
from components.launchers.cluster import Cluster, PermissionDeniedError, Resource
from components.launchers.following import Following
from components.launchers.job import LaunchError, TrainingJob
from components.launchers.manifest import build_manifest
from components.launchers.settings import LauncherSettings
from components.launchers.signals import StopSignals

logger = logging.getLogger(__name__)


class MpiJobLauncher:
    """Runs the ranks in pods of an MPIJob.

    Args:
        environ: of the pipeline step; default: this process's.
    """

    def __init__(
        self, settings: LauncherSettings | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._settings = settings or LauncherSettings()
        self._environ = environ

    def run(self, job: TrainingJob) -> None:
        """See `Launcher.run`."""
        settings = self._settings
        manifest = build_manifest(job, settings, os.environ if self._environ is None else self._environ)
        with StopSignals() as signals:  # before the creation: nothing may fall between
            cluster = Cluster(settings, signals.pause)
            created = None
            try:
                created = start(cluster, manifest, settings, signals.pause)
                Following(cluster, created, job, settings, signals.pause).to_the_end()
            finally:
                clean_up(Cluster(settings), manifest, created, settings)


def start(
    cluster: Cluster, manifest: Resource, settings: LauncherSettings, pause: Callable[[float], None]
) -> Resource:
    """Creates the MPIJob, or adopts the one that an earlier attempt of the same step has left behind.

    Raises:
        LaunchError: there is one of its name that is not ours, or an old one that does not go away.
    """
    name = manifest["metadata"]["name"]
    deadline = time.monotonic() + settings.delete_timeout_s
    while True:
        if (created := cluster.create(manifest)) is not None:
            logger.info("MPIJob %s: created in namespace %s", name, cluster.namespace)
            return created
        found = cluster.get(name)
        if found is not None and not naming.is_same(found, manifest):
            raise LaunchError(
                f"MPIJob {name} is there already, and was not made for this run; see what it is, and make "
                f"room with 'kubectl -n {cluster.namespace} delete mpijob {name}'"
            )
        if found is not None and "deletionTimestamp" not in found["metadata"]:
            if state.condition(found, "Failed") is None:
                if (adopted := _adopt(cluster, found, manifest)) is not None:
                    return adopted
            else:
                logger.info("MPIJob %s: an earlier attempt has failed; starting anew", name)
            cluster.delete(found)
        if time.monotonic() > deadline:
            raise LaunchError(
                f"MPIJob {name}: an old one is still there after {settings.delete_timeout_s:g} s"
            )
        pause(settings.poll_s)


def clean_up(
    cluster: Cluster, manifest: Resource, created: Resource | None, settings: LauncherSettings
) -> None:
    """Deletes the MPIJob and waits until its pods are gone.

    A failure is only logged: there may be a greater one on its way.

    Args:
        created: the job; None where it is not known whether there is one.
    """
    name = manifest["metadata"]["name"]
    try:
        job = created or cluster.get(name)
    except PermissionDeniedError:
        return  # so the creation, too, was refused
    except LaunchError as error:
        logger.warning("MPIJob %s: cannot tell whether it is there: %s", name, error)
        return
    if job is None or not naming.is_same(job, manifest):
        return
    try:
        cluster.delete(job)
    except LaunchError as error:
        logger.warning("MPIJob %s: left behind: %s", name, error)
        return
    _wait_until_gone(cluster, job, settings)


def _wait_until_gone(cluster: Cluster, job: Resource, settings: LauncherSettings) -> None:
    """A deletion in the foreground ends with the last pod."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    deadline = time.monotonic() + settings.delete_timeout_s
    try:
        while (left := cluster.get(name)) is not None and left["metadata"]["uid"] == uid:
            if time.monotonic() > deadline:
                logger.warning("MPIJob %s: deleted, but not gone after %g s", name, settings.delete_timeout_s)
                return
            time.sleep(settings.poll_s)
    except LaunchError:
        return  # deleted it is; that nobody may look is what the launcher has ended with
    logger.info("MPIJob %s: deleted", name)


def _adopt(cluster: Cluster, found: Resource, manifest: Resource) -> Resource | None:
    """Takes over a job; None where it cannot be marked as this pod's, as the reaper would then delete it."""
    theirs, ours = found["metadata"], manifest["metadata"]
    marks = {
        "labels": {**theirs.get("labels", {}), **ours["labels"]},
        "annotations": {**theirs.get("annotations", {}), **ours["annotations"]},
        "ownerReferences": ours.get("ownerReferences", theirs.get("ownerReferences", [])),
    }
    if any(theirs.get(key, []) != value for key, value in marks.items()):
        try:
            found = cluster.set_metadata(found, marks)
        except PermissionDeniedError as error:
            logger.warning("MPIJob %s: starting anew from its newest checkpoint: %s", theirs["name"], error)
            return None
    logger.info("MPIJob %s: was there already, going on with it", theirs["name"])
    return found
