"""The Kubernetes API for cancel and preflight: one client, whose every request has a time limit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kubernetes.client
import kubernetes.config
import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from components.launchers.naming import RUN_ID
from pipelines.connection import public_url, reason
from upsnet.errors import UpsnetError

GROUP, VERSION, PLURAL = "kubeflow.org", "v2beta1", "mpijobs"


class ClusterError(UpsnetError):
    """The Kubernetes API refused a request; `status` is its HTTP status."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ClusterUnreachableError(ClusterError):
    """The Kubernetes API did not answer."""


@dataclass(frozen=True)
class MPIJob:
    """What cancel needs to know of an MPIJob."""

    name: str
    run_id: str
    ending: bool


class Cluster:
    """The Kubernetes API that kubeconfig names, or that of the pod in which this runs.

    Args:
        context: context of the kubeconfig; empty for the current one.
        timeout_s: longest wait for the connection, and for each piece of an answer.
    """

    def __init__(self, context: str = "", timeout_s: float = 10.0) -> None:
        settings = kubernetes.client.Configuration()
        try:
            _load(settings, context)
        except (ConfigException, OSError) as error:
            raise ClusterUnreachableError(
                f"no Kubernetes cluster is configured ({error}); set KUBECONFIG, or run this where "
                "'kubectl cluster-info' works"
            ) from error
        settings.retries = False
        self.host = public_url(settings.host)
        self.api = kubernetes.client.ApiClient(settings)
        self._timeout = (min(5.0, timeout_s), timeout_s)

    def call(self, what: str, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Makes one request with the time limit; `what` names it in the message of an error.

        Raises:
            ClusterUnreachableError: no answer, or one that says 'not now'.
            ClusterError: refused.
        """
        try:
            return request(*arguments, _request_timeout=self._timeout, **options)
        except ApiException as error:
            kind = ClusterUnreachableError if error.status >= 500 or error.status == 429 else ClusterError
            raise kind(f"{what}: HTTP {error.status}: {_said(error)}", error.status) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnreachableError(
                f"{what}: Kubernetes at {self.host} does not answer ({reason(error)}); "
                "does 'kubectl cluster-info' work?"
            ) from error

    def mpijobs(self, namespace: str, run_id: str) -> list[MPIJob]:
        """The MPIJobs that a run made, those that are being deleted too."""
        try:
            listed = self.call(
                f"listing the MPIJobs of namespace {namespace}",
                kubernetes.client.CustomObjectsApi(self.api).list_namespaced_custom_object,
                *(GROUP, VERSION, namespace, PLURAL),
            )
        except ClusterError as error:
            if error.status == 404:  # no mpi-operator: there can be none
                return []
            raise
        return [job for job in map(_mpijob, listed.get("items") or []) if job.run_id == run_id]

    def delete_mpijob(self, namespace: str, name: str) -> bool:
        """Asks for an MPIJob's end, its pods first; False if it is gone already."""
        try:
            self.call(
                f"deleting MPIJob {name} of namespace {namespace}",
                kubernetes.client.CustomObjectsApi(self.api).delete_namespaced_custom_object,
                *(GROUP, VERSION, namespace, PLURAL, name),
                body=kubernetes.client.V1DeleteOptions(propagation_policy="Foreground"),
            )
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True


def _load(settings: Any, context: str) -> None:
    """Fills in address and credentials: in a pod its own, unless KUBECONFIG or a context says otherwise."""
    file = os.environ.get("KUBECONFIG", "")
    if "KUBERNETES_SERVICE_HOST" in os.environ and not file and not context:
        kubernetes.config.load_incluster_config(client_configuration=settings)
    else:
        kubernetes.config.load_kube_config(file or None, context or None, client_configuration=settings)


def _mpijob(item: dict[str, Any]) -> MPIJob:
    metadata = item.get("metadata") or {}
    marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return MPIJob(str(metadata.get("name")), str(marks.get(RUN_ID, "")), "deletionTimestamp" in metadata)


def _said(error: ApiException) -> str:
    """The message in the body of a refusal, in one line of bearable length."""
    try:
        text = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        text = error.reason or "no reason given"
    return " ".join(text.split())[:300]
