"""Where MLflow is, and a client that is quiet and gives up soon."""

from __future__ import annotations

import logging
import os
import re
import warnings
from pathlib import Path
from typing import Any

DEFAULT_URI = "sqlite:///mlflow.db"

# MLflow's own defaults retry for many minutes, during which training would stand still.
QUIET_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


REFUSALS = {
    *("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"),
    *("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"),
}
"""What MLflow will never take, however often it is asked."""


def tracking_uri() -> str:
    """Where MLflow is."""
    here = f"sqlite:///{home()}/mlflow.db" if home() != Path.cwd() else DEFAULT_URI
    return os.environ.get("MLFLOW_TRACKING_URI") or here


def home() -> Path:
    """The folder of mlflow.db and mlartifacts where no server is named: this one.

    DVC runs a queued experiment in a checkout below .dvc/tmp/exps, which it deletes at the end; its figures
    belong to the project above.
    """
    return Path(str(Path.cwd()).partition("/.dvc/tmp/exps/")[0])


def tracking_place() -> str:
    """Where MLflow is, for messages: without passwords."""
    return re.sub(r"//[^/@\s]+@", "//***@", tracking_uri()).split("?")[0]


def mlflow_client() -> Any:
    """A client that is quiet and does not retry for long."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"mlflow\.")
    return mlflow.MlflowClient(tracking_uri=tracking_uri())


def is_refusal(error: Exception) -> bool:
    """Whether MLflow itself has said no for good; a proxy before it, while it restarts, may say 404 too."""
    from mlflow.exceptions import RestException

    code = getattr(error, "error_code", "")
    from_a_proxy = tracking_uri().startswith("http") and not isinstance(error, RestException)
    return code == "INVALID_PARAMETER_VALUE" or (code in REFUSALS and not from_a_proxy)
