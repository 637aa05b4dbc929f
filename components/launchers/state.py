"""What an MPIJob's status, pods and events say: pure functions of the API's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.launchers.cluster import Resource

ROLE_LABEL = "training.kubeflow.org/job-role"
STARTING = ("ContainerCreating", "PodInitializing")
"""Waiting reasons that say nothing."""


@dataclass(frozen=True)
class Ended:
    """How the container of a launcher pod ended."""

    pod: str
    exit_code: int
    reason: str


def condition(job: Resource, kind: str) -> Resource | None:
    """A condition of an MPIJob that holds: Created, Running, Restarting, Suspended, Succeeded or Failed."""
    conditions = job.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def launcher_pods(pods: Sequence[Resource]) -> list[Resource]:
    """The launcher's pods, one per attempt, oldest first."""
    found = [pod for pod in pods if pod["metadata"].get("labels", {}).get(ROLE_LABEL) == "launcher"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def worker_pods(pods: Sequence[Resource]) -> list[Resource]:
    """The workers' pods."""
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get(ROLE_LABEL) == "worker"]


def container_state(pod: Resource) -> dict[str, Any]:
    """The state of the pod's container: an object with the key waiting, running or terminated, or none."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    state: dict[str, Any] = statuses[0].get("state") or {}
    return state


def has_started(pod: Resource) -> bool:
    """Whether there can be a log."""
    return any(kind in container_state(pod) for kind in ("running", "terminated"))


def is_running(pod: Resource) -> bool:
    """Whether the container runs."""
    return "running" in container_state(pod)


def is_ready(pod: Resource) -> bool:
    """Whether the pod answers: for a worker, its sshd."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ended(pod: Resource) -> Ended | None:
    """How the pod's container ended; None while it has not."""
    terminated = container_state(pod).get("terminated")
    if terminated is not None:
        return Ended(pod["metadata"]["name"], terminated["exitCode"], terminated.get("reason", ""))
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):  # evicted: no container status
        code = 0 if pod["status"]["phase"] == "Succeeded" else 1
        return Ended(pod["metadata"]["name"], code, pod["status"].get("reason", ""))
    return None


def worker_faults(pods: Sequence[Resource]) -> list[str]:
    """Workers whose container ended, now or before, such as for want of memory."""
    faults = []
    for pod in worker_pods(pods):
        status = (pod.get("status", {}).get("containerStatuses") or [{}])[0]
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            if terminated := state.get("terminated"):
                reason = terminated.get("reason", "ended")
                faults.append(f"{pod['metadata']['name']}: {reason} ({terminated['exitCode']})")
                break
    return faults


def invalid(job: Resource, events: Sequence[Resource]) -> str | None:
    """What the operator has against the MPIJob itself, which no waiting will heal."""
    own = [event for event in events if event["involvedObject"].get("uid") == job["metadata"]["uid"]]
    return next((event["message"] for event in own if event["reason"] == "ValidationError"), None)


def waiting_reasons(job: Resource, pods: Sequence[Resource], events: Sequence[Resource]) -> list[str]:
    """Why no ranks run, most telling first; the same reason of several pods once."""
    reasons: dict[str, list[str]] = {}
    for pod in pods:
        if reason := _pod_reason(pod):
            reasons.setdefault(reason, []).append(pod["metadata"]["name"])
    for event in _concerning(job, events):
        name = event["involvedObject"]["name"]
        if not any(name in names for names in reasons.values()):  # what the pod's status says is newer
            reasons.setdefault(f"{event['reason']}: {event['message']}", []).append(name)
    texts = [f"{_some(names)}: {reason}" for reason, names in reasons.items()]
    if suspended := condition(job, "Suspended"):
        texts.insert(0, f"suspended, as a queue does it ({suspended.get('message', '')})")
    return texts or [_silent_reason(job, pods)]


def _pod_reason(pod: Resource) -> str | None:
    """What the status of a pod tells of its waiting."""
    waiting = container_state(pod).get("waiting") or {}
    if waiting.get("reason", STARTING[0]) not in STARTING:
        return ": ".join(part for part in (waiting["reason"], waiting.get("message", "")) if part)
    for found in pod.get("status", {}).get("conditions") or []:
        if found["type"] == "PodScheduled" and found["status"] == "False":
            return f"{found.get('reason', 'not scheduled')}: {found.get('message', '')}"
    return None


def _concerning(job: Resource, events: Sequence[Resource]) -> list[Resource]:
    """The events of this MPIJob, its Job and its pods, newest first; one per object, none of a former job."""
    name, since = job["metadata"]["name"], job["metadata"]["creationTimestamp"]
    newest: dict[str, Resource] = {}
    for event in sorted(events, key=_time):
        about = event["involvedObject"]["name"]
        own = about == name or about.startswith((f"{name}-launcher", f"{name}-worker-"))
        if own and _time(event) >= since[:19]:
            newest[about] = event
    return sorted(newest.values(), key=_time, reverse=True)


def _time(event: Resource) -> str:
    """When it was seen last, to the second, as `2026-01-01T00:00:00`: not all have fractions."""
    times = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return str(next((time for time in times if time), ""))[:19]


def _silent_reason(job: Resource, pods: Sequence[Resource]) -> str:
    """What to think where no object names a reason."""
    if not job.get("status", {}).get("conditions"):
        return (
            "the operator has not taken the job up; does mpi-operator run, and may it watch this namespace?"
        )
    if not pods:
        return "no pods yet"
    if (launchers := launcher_pods(pods)) and (last := ended(launchers[-1])) is not None:
        return f"the launcher ended with {last.exit_code} {last.reason}; the operator decides what comes next"
    ready = sum(map(is_ready, worker_pods(pods)))
    return f"{ready} of {len(worker_pods(pods))} workers ready, the launcher pod is not running yet"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
