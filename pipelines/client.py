"""Kubeflow Pipelines over its REST API (v2beta1): the calls that submit, cancel and preflight make.

kfp's own client retries for long and sets no time limits, so a host that does not answer would hold the
command for ever; here every call has one. Credentials go into headers only, never into a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from pipelines.connection import PORT_FORWARD, Connection, Credentials, check_host, reason
from upsnet.errors import UpsnetError

TIMEOUT_S = (5.0, 30.0)
"""Longest wait for the connection, and for each piece of an answer."""

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
"""States of a run that stay."""


class PipelinesError(UpsnetError):
    """Kubeflow Pipelines refused a request."""


class UnreachableError(PipelinesError):
    """Kubeflow Pipelines did not answer, or could not just now; asking again later may help."""


class NotFoundError(PipelinesError):
    """Kubeflow Pipelines does not know what was asked for."""


class ConflictError(PipelinesError):
    """What was to be made is there already."""


@dataclass(frozen=True)
class Run:
    """A run as Kubeflow Pipelines tells of it; `tasks` are pairs of display name and state."""

    run_id: str
    name: str
    state: str
    error: str
    tasks: tuple[tuple[str, str], ...]

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED


class PipelinesClient:
    """Kubeflow Pipelines at one host.

    Args:
        connection: host and credentials.
        timeout_s: longest wait for the connection, and for each piece of an answer.
    """

    def __init__(self, connection: Connection, timeout_s: tuple[float, float] = TIMEOUT_S) -> None:
        self.host = check_host(connection.host)
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.auth = Credentials(connection)

    def is_multi_user(self) -> bool:
        """Whether each namespace is a user's; else all runs are in the namespace of Kubeflow Pipelines."""
        return bool(self._call("GET", "healthz").get("multi_user", False))

    def experiment_id(self, name: str, namespace: str) -> str:
        """Id of the experiment, made if it is new; `namespace` is empty where there is one user only."""
        body = {"display_name": name, **({"namespace": namespace} if namespace else {})}
        try:
            return str(self._call("POST", "experiments", body=body)["experiment_id"])
        except ConflictError:
            predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
            query = {"filter": json.dumps({"predicates": [predicate]}), "namespace": namespace}
            found = self._call("GET", "experiments", query=query).get("experiments") or []
            if not found:
                raise
            return str(found[0]["experiment_id"])

    def create_run(
        self,
        name: str,
        package: Mapping[str, Any],
        parameters: Mapping[str, Any],
        experiment_id: str,
        service_account: str,
    ) -> str:
        """Starts a compiled pipeline (see `read_package`) and returns the id of the run."""
        body = {
            "display_name": name,
            "experiment_id": experiment_id,
            "pipeline_spec": package,
            "runtime_config": {"parameters": dict(parameters)},
            "service_account": service_account,
        }
        return str(self._call("POST", "runs", body=body)["run_id"])

    def run(self, run_id: str) -> Run:
        """What is known of a run.

        Raises:
            NotFoundError: there is no such run.
        """
        found = self._call("GET", f"runs/{check_run_id(run_id)}")
        details = (found.get("run_details") or {}).get("task_details") or []
        return Run(
            run_id=str(found.get("run_id", run_id)),
            name=str(found.get("display_name", "")),
            state=str(found.get("state", "RUNTIME_STATE_UNSPECIFIED")),
            error=str((found.get("error") or {}).get("message", "")),
            tasks=tuple((str(t.get("display_name", "")), str(t.get("state", ""))) for t in details),
        )

    def terminate(self, run_id: str) -> None:
        """Asks for the end of a run; Kubeflow Pipelines refuses where the run is ending or has ended."""
        self._call("POST", f"runs/{check_run_id(run_id)}:terminate")

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One request, and its JSON answer or the error that says what to do."""
        try:
            response = self._session.request(
                method,
                f"{self.host}/apis/v2beta1/{path}",
                json=body,
                params={key: value for key, value in (query or {}).items() if value},
                timeout=self._timeout_s,
                allow_redirects=False,  # a redirect is a login page, whose HTML would pass for an answer
            )
        except requests.RequestException as error:
            raise UnreachableError(
                f"Kubeflow Pipelines at {self.host} does not answer ({reason(error)}); "
                f"check --host; from outside the cluster: {PORT_FORWARD}"
            ) from error
        return self._answer(response)

    def _answer(self, response: requests.Response) -> dict[str, Any]:
        where, status = f"Kubeflow Pipelines at {self.host}", response.status_code
        if status == 401 or 300 <= status < 400:
            raise PipelinesError(
                f"{where} asks for a login (HTTP {status}): the token or cookie is missing, wrong or out of "
                "date; give --token-file FILE, or --cookie NAME=VALUE as the browser has it after the login"
            )
        if status == 403:
            raise PipelinesError(
                f"{where} does not allow this (HTTP 403): {_said(response)}; check --namespace and whose "
                "token or cookie it is"
            )
        if status >= 500:
            raise UnreachableError(f"{where} answers with HTTP {status}: {_said(response)}")
        if status >= 400:
            kinds = {404: NotFoundError, 409: ConflictError}
            raise kinds.get(status, PipelinesError)(f"{where}: HTTP {status}: {_said(response)}")
        return self._json(response)

    def _json(self, response: requests.Response) -> dict[str, Any]:
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise PipelinesError(
                f"{self.host} answers, but not as Kubeflow Pipelines (no JSON object at "
                "/apis/v2beta1); in a full Kubeflow the host ends with /pipeline: https://HOST/pipeline"
            )
        return content


def check_run_id(run_id: str) -> str:
    """The id, if it can be one: it becomes a part of an address.

    Raises:
        UpsnetError: it holds other characters than letters, digits and hyphens.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", run_id):
        raise UpsnetError(
            f"run id {run_id!r}: expected something like 4f1f2a3b-5c6d-4e7f-8a9b-0c1d2e3f4a5b; "
            "'python -m pipelines.submit' prints it, and it is at the end of the run's URL"
        )
    return run_id


def _said(response: requests.Response) -> str:
    """The message in an error's body, in one line of bearable length."""
    try:
        content = response.json()
        text = str(content.get("message") or content.get("error") or content)
    except (ValueError, AttributeError):
        text = response.reason or "no reason given"
    return " ".join(text.split())[:300]
