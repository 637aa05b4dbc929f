"""The API server as the launcher and the reaper use it: few calls, all bounded, patient with a restart."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from components.launchers.job import LaunchError
from components.launchers.settings import LauncherSettings

logger = logging.getLogger(__name__)

Resource = dict[str, Any]
"""An object of the API in its own words."""

MPIJOBS = {"group": "kubeflow.org", "version": "v2beta1", "plural": "mpijobs"}
JOB_LABEL = "training.kubeflow.org/job-name"
TRANSIENT = (408, 429, 500, 502, 503, 504)
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class PermissionDeniedError(LaunchError):
    """The service account may not do this."""


class Cluster:
    """MPIJobs, pods, logs and events of one namespace.

    Args:
        pause: sleeps between two attempts, and may raise to end the work.
    """

    def __init__(self, settings: LauncherSettings, pause: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._pause = pause
        configuration, namespace = _configuration()
        self.namespace = settings.namespace or namespace
        api = client.ApiClient(configuration)
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._place = {**MPIJOBS, "namespace": self.namespace}
        self._allowed: set[str] = set()

    def create(self, manifest: Resource) -> Resource | None:
        """Creates an MPIJob; None when there is one of its name."""
        request = partial(self._custom.create_namespaced_custom_object, **self._place, body=manifest)
        created: Resource | None = self._call("create mpijobs.kubeflow.org", request, unless=(409,))
        return created

    def get(self, name: str) -> Resource | None:
        """An MPIJob, or None when there is none."""
        request = partial(self._custom.get_namespaced_custom_object, **self._place, name=name)
        found: Resource | None = self._call("get mpijobs.kubeflow.org", request, unless=(404,))
        return found

    def mpijobs(self, label_selector: str) -> list[Resource]:
        """The MPIJobs with certain labels."""
        request = partial(
            self._custom.list_namespaced_custom_object, **self._place, label_selector=label_selector
        )
        items: list[Resource] = self._call("list mpijobs.kubeflow.org", request)["items"]
        return items

    def set_metadata(self, job: Resource, marks: Mapping[str, Any]) -> Resource:
        """Sets labels, annotations or owners of an MPIJob."""
        metadata = job["metadata"]
        same = {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]}
        # A list is a JSON patch; the client would send a mapping as a patch that custom objects do not know.
        body = [same, *({"op": "add", "path": f"/metadata/{key}", "value": marks[key]} for key in marks)]
        request = partial(
            self._custom.patch_namespaced_custom_object, **self._place, name=metadata["name"], body=body
        )
        changed: Resource = self._call("patch mpijobs.kubeflow.org", request)
        return changed

    def delete(self, job: Resource, *, unchanged: bool = False) -> bool:
        """Deletes an MPIJob and its pods; False if it is gone or, where asked for, not as it was read."""
        keys = ("uid", "resourceVersion") if unchanged else ("uid",)
        preconditions = {key: job["metadata"][key] for key in keys}
        options = {"propagationPolicy": "Foreground", "preconditions": preconditions}
        name = job["metadata"]["name"]
        request = partial(
            self._custom.delete_namespaced_custom_object, **self._place, name=name, body=options
        )
        return self._call("delete mpijobs.kubeflow.org", request, unless=(404, 409)) is not None

    def pod(self, name: str) -> Resource | None:
        """A pod, or None when there is none."""
        request = partial(self._core.read_namespaced_pod, name, self.namespace)
        found: Resource | None = self._call("get pods", request, unless=(404,))
        return found

    def pods(self, job: str) -> list[Resource]:
        """The pods of an MPIJob."""
        request = partial(self._core.list_namespaced_pod, self.namespace, label_selector=f"{JOB_LABEL}={job}")
        items: list[Resource] = self._call("list pods", request)["items"]
        return items

    def warnings(self) -> list[Resource]:
        """The Warning events of the namespace."""
        request = partial(self._core.list_namespaced_event, self.namespace, field_selector="type=Warning")
        items: list[Resource] = self._call("list events", request)["items"]
        return items

    def log(self, pod: str, since_s: int | None) -> Iterator[bytes]:
        """The log of a pod, from its beginning or from so long ago, in pieces as it is written; asks once.

        Raises:
            kubernetes.client.ApiException, urllib3.exceptions.HTTPError: no answer, or one that was cut.
        """
        silence = (self._settings.request_timeout_s, self._settings.log_idle_s)
        options: dict[str, Any] = {} if since_s is None else {"since_seconds": since_s}
        response = self._core.read_namespaced_pod_log(
            pod,
            self.namespace,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=silence,
            **options,
        )
        try:
            yield from response.stream(decode_content=True)
        finally:
            response.close()

    def _call(self, what: str, request: Callable[..., Any], unless: tuple[int, ...] = ()) -> Any:
        """The answer, or None for a status in `unless`; asks again while the API server is away.

        Raises:
            PermissionDeniedError: at the first refusal of what was never allowed before.
            LaunchError: the request is wrong, or there was no answer for `api_patience_s`.
        """
        settings = self._settings
        deadline = time.monotonic() + settings.api_patience_s
        pause = settings.api_pause_s
        while True:
            try:
                # As it comes: the client's models refuse answers that lack what newer servers leave out.
                response = request(_request_timeout=settings.request_timeout_s, _preload_content=False)
                answer = json.loads(response.data)
                self._allowed.add(what)
                return answer
            except client.ApiException as error:
                if error.status in unless:
                    return None
                # A server that has just started refuses what it allows as soon as it knows its roles.
                if error.status in (401, 403) and what not in self._allowed:
                    raise PermissionDeniedError(self._refusal(what, error)) from None
                if error.status not in (*TRANSIENT, 401, 403):
                    raise LaunchError(f"API server: {what} in {self.namespace}: {_said(error)}") from error
                problem = _said(error)
            except HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause > deadline:
                raise LaunchError(
                    f"API server: no answer to '{what}' for {settings.api_patience_s:g} s, at last: {problem}"
                )
            logger.warning("API server: %s: %s; asking again in %g s", what, problem, pause)
            self._pause(pause)
            pause = min(2 * pause, settings.api_longest_pause_s)

    def _refusal(self, what: str, error: client.ApiException) -> str:
        return (
            f"permission denied: this service account may not {what} in namespace {self.namespace}; "
            f"give it the role of k8s/base, and see 'python -m pipelines.preflight' ({_said(error)})"
        )


def _configuration() -> tuple[client.Configuration, str]:
    """How to reach the API server, and the namespace: in a pod its own, else what the kubeconfig says.

    Raises:
        LaunchError: neither is there.
    """
    configuration = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
            namespace = NAMESPACE_FILE.read_text().strip()
        else:
            file = os.environ.get("KUBECONFIG")  # the client itself has read it at import
            config.load_kube_config(file, client_configuration=configuration)
            namespace = config.list_kube_config_contexts(file)[1]["context"].get("namespace", "default")
    except (config.ConfigException, OSError) as error:
        raise LaunchError(
            f"no Kubernetes here: {error}; set KUBECONFIG, or use the launcher 'local'"
        ) from error
    configuration.retries = False  # `_call` asks again, and says so
    return configuration, namespace


def _said(error: client.ApiException) -> str:
    """What the API server said, in one line."""
    try:
        message = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        message = error.body or error.reason
    return f"{error.status}: {' '.join(str(message).split())[:500]}"
