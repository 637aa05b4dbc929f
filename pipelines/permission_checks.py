"""What preflight looks at in the permissions of the user and of the steps' service account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kubernetes.client as k8s

from pipelines.checks import Finding
from pipelines.cluster import GROUP, PLURAL, Cluster, ClusterError
from pipelines.cluster_checks import APPLY, STEPS_ACCOUNT

Permissions = dict[tuple[str, str], tuple[str, ...]]

NEEDED: Permissions = {
    (GROUP, PLURAL): ("create", "get", "list", "watch", "patch", "delete"),
    ("", "pods"): ("get", "list", "watch"),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list",),
}
"""What the steps' service account must be allowed: group and resource, and the verbs."""

NEEDED_BY_USER: Permissions = {(GROUP, PLURAL): ("get", "list", "delete")}
"""What `python -m pipelines.cancel` needs of the user; the rest of `NEEDED` helps in looking around."""


def check_own_permissions(cluster: Cluster, namespace: str) -> list[Finding]:
    """The user may do what cancel does; what only looking around needs is a warning."""

    def allowed(attributes: k8s.V1ResourceAttributes) -> bool:
        review = k8s.V1SelfSubjectAccessReview(
            spec=k8s.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        create = k8s.AuthorizationV1Api(cluster.api).create_self_subject_access_review
        return bool(cluster.call("asking for permissions", create, review).status.allowed)

    missing = _missing(allowed, namespace)
    subject = "your permissions"
    if not missing:
        return [Finding(subject, "ok", "MPIJobs, pods, logs and events")]
    needed = [lack for lack in missing if _named(NEEDED_BY_USER, lack)]
    remedy = f"ask for a RoleBinding in namespace {namespace}"
    if needed:
        return [Finding(subject, "wrong", f"missing: {_verbs(missing)}", f"{remedy}; cancel needs it")]
    return [
        Finding(subject, "warning", f"missing: {_verbs(missing)}", "needed only for looking at a training")
    ]


def check_steps_permissions(cluster: Cluster, namespace: str) -> list[Finding]:
    """The steps' service account may make, follow and remove MPIJobs; needs the right to ask for others."""
    subject = f"permissions of {STEPS_ACCOUNT}"
    user = f"system:serviceaccount:{namespace}:{STEPS_ACCOUNT}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]

    def allowed(attributes: k8s.V1ResourceAttributes) -> bool:
        spec = k8s.V1SubjectAccessReviewSpec(resource_attributes=attributes, user=user, groups=groups)
        create = k8s.AuthorizationV1Api(cluster.api).create_subject_access_review
        answer = cluster.call("asking for others", create, k8s.V1SubjectAccessReview(spec=spec))
        return bool(answer.status.allowed)

    try:
        missing = _missing(allowed, namespace)
    except ClusterError as error:
        if error.status != 403:
            raise
        how = f"as an administrator: kubectl auth can-i create {PLURAL} -n {namespace} --as {user}"
        return [Finding(subject, "not checked", "you may not ask for the permissions of others", how)]
    if missing:
        return [Finding(subject, "wrong", f"missing: {_verbs(missing)}", APPLY)]
    return [Finding(subject, "ok", "MPIJobs, pods, logs and events")]


def _missing(allowed: Callable[[Any], bool], namespace: str) -> list[tuple[str, str, str]]:
    """Group, resource and verb of what is not allowed."""
    return [
        (group, resource, verb)
        for (group, resource), verbs in NEEDED.items()
        for verb in verbs
        if not allowed(_attributes(namespace, group, resource, verb))
    ]


def _attributes(namespace: str, group: str, resource: str, verb: str) -> Any:
    name, _, part = resource.partition("/")
    return k8s.V1ResourceAttributes(
        namespace=namespace, group=group, resource=name, subresource=part or None, verb=verb
    )


def _named(permissions: Permissions, lack: tuple[str, str, str]) -> bool:
    group, resource, verb = lack
    return verb in permissions.get((group, resource), ())


def _verbs(missing: list[tuple[str, str, str]]) -> str:
    """Such as `mpijobs create, delete; events list`."""
    verbs: dict[str, list[str]] = {}
    for _, resource, verb in missing:
        verbs.setdefault(resource, []).append(verb)
    return "; ".join(f"{resource} {', '.join(names)}" for resource, names in verbs.items())
