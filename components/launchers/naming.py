"""Names and marks of the MPIJobs: the same run always gets the same name; ours are told from others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from components.launchers.job import LaunchError, TrainingJob

PREFIX = "upsnet-"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER_POD = "upsnet.dev/owner-pod"
"""Label (shortened where it must be) and annotation (in full): the pod of the pipeline step."""
OWNER_UID = "upsnet.dev/owner-uid"
RUN_ID = "upsnet.dev/run-id"
"""Annotation: the pipeline run."""
STEP = "upsnet.dev/step"
"""Annotation: `TrainingJob.name`."""

LABEL_LENGTH = 63
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def job_name(job: TrainingJob) -> str:
    """Name of the MPIJob: readable, and a hash of run id and name that tells two alike apart.

    Raises:
        LaunchError: the name of its last worker would be no DNS label, which the operator only tells later.
    """
    digest = hashlib.sha256(f"{run_id(job)}\0{job.name}".encode()).hexdigest()[:10]
    words = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")[:24].strip("-")
    name = PREFIX + "-".join(part for part in (words, digest) if part)
    check_name(name, job.workers)
    return name


def check_name(name: str, workers: int) -> None:
    """Refuses a name that the operator would answer with a ValidationError event."""
    last = f"{name}-worker-{workers - 1}"
    if not DNS_1035.fullmatch(last) or len(last) > LABEL_LENGTH:
        raise LaunchError(
            f"MPIJob name: its last worker would be {last!r}; expected at most {LABEL_LENGTH} of a-z, 0-9 "
            "and '-', beginning with a letter; choose a shorter name or fewer workers"
        )


def run_id(job: TrainingJob) -> str:
    """The pipeline run of a training."""
    return job.run_id or job.name


def label_value(text: str) -> str:
    """The text where it fits into a label, else its beginning and a hash; pod names may be longer."""
    if len(text) <= LABEL_LENGTH:
        return text
    return f"{text[:52]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def owner_marks(environ: Mapping[str, str]) -> dict[str, Any]:
    """Metadata that ties an MPIJob to the pod of the pipeline step; nothing outside of a pod.

    The pod's deletion takes the job with it (ownerReference); its end does so by the reaper (label).
    """
    pod, uid = environ.get("KFP_POD_NAME", ""), environ.get("KFP_POD_UID", "")
    if not pod or not uid:
        return {"labels": {}, "annotations": {}}
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
    return {
        "labels": {OWNER_POD: label_value(pod)},
        "annotations": {OWNER_POD: pod, OWNER_UID: uid},
        # The pod does not manage the job, and blocking would take a right on pods/finalizers.
        "ownerReferences": [{**reference, "controller": False, "blockOwnerDeletion": False}],
    }


def is_same(job: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether an MPIJob that is there was made by this launcher, for the same step of the same run."""
    found, ours = job["metadata"], manifest["metadata"]
    marks = [found.get("annotations", {}).get(key) == ours["annotations"][key] for key in (RUN_ID, STEP)]
    return all(marks) and found.get("labels", {}).get(MANAGED_BY) == ours["labels"][MANAGED_BY]
