"""The environment of the ranks: what the step knows of MLflow and S3 goes on, credentials only by Secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.launchers.job import LaunchError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CREDENTIAL_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|CREDENTIALS?|ACCESS_KEY|ACCESS_KEY_ID|API_KEY)$")
CREDENTIAL_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")
HANDED_ON = re.compile(r"MLFLOW_\w+|NCCL_\w+|AWS_(ENDPOINT_URL(_S3)?|REGION|DEFAULT_REGION)")
"""Variables of the step that its ranks need. The others of AWS_* name files of the step's own pod."""


def rank_environment(
    given: Mapping[str, str], step_env: Sequence[Mapping[str, Any]], environ: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The `env` of the workers: this process's MLflow and S3 variables, then the step's, then the job's own.

    Of the same name, the later wins.

    Raises:
        LaunchError: a name that is none, or a credential in plain, which would be readable in the MPIJob.
    """
    for name, value in given.items():
        if not NAME.fullmatch(name):
            raise LaunchError(f"environment: {name!r} is no name of a variable")
        if _is_credential(name, value):
            raise LaunchError(
                f"environment: {name} holds a credential, which everybody could read in the MPIJob; "
                "put it into a Secret and name that in secret_names"
            )
    handed_on = {
        name: value
        for name, value in environ.items()
        if HANDED_ON.fullmatch(name) and not _is_credential(name, value)
    }
    entries = {name: variable(name, value) for name, value in handed_on.items()}
    entries.update({str(entry.get("name")): dict(entry) for entry in step_env})
    entries.update({name: variable(name, value) for name, value in given.items()})
    return [entries[name] for name in sorted(entries)]


def variable(name: str, value: str) -> dict[str, Any]:
    """One entry of a container's `env`."""
    return {"name": name, "value": literal(value)}


def literal(text: str) -> str:
    """The text as Kubernetes takes it unchanged: in `env` and `args`, $(NAME) and $$ are its own."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def _is_credential(name: str, value: str) -> bool:
    return bool(CREDENTIAL_NAME.search(name) or CREDENTIAL_URL.search(value))
