"""What preflight looks at outside the Kubernetes API: image, Kubeflow Pipelines, MLflow, bucket."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import kubernetes.client as k8s
import requests

from pipelines.checks import Finding
from pipelines.client import PipelinesClient, UnreachableError
from pipelines.cluster import Cluster, ClusterError
from pipelines.connection import Connection, public_url, reason

PORT = r"(?::\d{1,5})?"
HOST = rf"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:\d)){PORT}/"
PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"({HOST})?{PART}(?:/{PART})*(:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?"
)
"""The grammar of image names: registry, path, tag, digest."""


def check_image(name: str) -> list[Finding]:
    """The image's name is well formed and says which version it is."""
    subject, good = "image", "such as registry.example.com/upsnet:0.1.0"
    match = IMAGE.fullmatch(name)
    if match is None:
        return [Finding(subject, "wrong", f"{name!r} is no image name", f"--image NAME:TAG, {good}")]
    registry, tag, digest = match.groups()
    if not digest and tag in (None, ":latest"):
        what = f"{name}: the pods may each get another version"
        return [Finding(subject, "wrong", what, f"give a tag other than latest, {good}")]
    if registry is None and "/" not in name:
        how = "load it into the nodes (kind, minikube), or push it and give --image REGISTRY/NAME:TAG"
        return [
            Finding(subject, "warning", f"{name}: no registry, only nodes that hold it can start it", how)
        ]
    return [Finding(subject, "ok", name)]


def check_pipelines(connection: Connection | None, timeout_s: float) -> list[Finding]:
    """Kubeflow Pipelines answers and lets the user in."""
    subject = "Kubeflow Pipelines"
    if connection is None:
        return [Finding(subject, "not checked", "no host given", "--host, or set KFP_HOST")]
    client = PipelinesClient(connection, (timeout_s, timeout_s))
    kind = "many users" if client.is_multi_user() else "one user"
    return [Finding(subject, "ok", f"{client.host}, for {kind}")]


def check_pods_namespace(
    connection: Connection | None, cluster: Cluster, namespace: str, timeout_s: float
) -> list[Finding]:
    """Pods start in `namespace`; where there is one user only, they start beside Kubeflow Pipelines."""
    subject = "namespace of the runs"
    if connection is None:
        return [
            Finding(subject, "not checked", "no host of Kubeflow Pipelines given", "--host, or set KFP_HOST")
        ]
    try:
        if PipelinesClient(connection, (timeout_s, timeout_s)).is_multi_user():
            return [Finding(subject, "ok", f"{namespace}, as asked")]
    except UnreachableError:
        return [Finding(subject, "not checked", "Kubeflow Pipelines does not answer")]
    read = k8s.CoreV1Api(cluster.api).read_namespaced_service
    try:
        cluster.call("Service ml-pipeline", read, "ml-pipeline", namespace)
    except ClusterError as error:
        if error.status == 403:
            return [Finding(subject, "not checked", "you may not look at services", "ask an administrator")]
        if error.status != 404:
            raise
        what = f"Kubeflow Pipelines is for one user and not in {namespace}: pods start where it is, not there"
        how = "take components/standalone into the overlay, and give the namespace by --namespace"
        return [Finding(subject, "wrong", what, how)]
    return [Finding(subject, "ok", f"{namespace}, that of Kubeflow Pipelines")]


def check_mlflow(url: str, timeout_s: float) -> list[Finding]:
    """MLflow answers at the address that the user has."""
    subject = "MLflow from here"
    if not re.match(r"https?://", url):
        how = "--mlflow-url; kubectl -n upsnet port-forward svc/mlflow 5000:5000, then http://localhost:5000"
        return [Finding(subject, "not checked", "no address given", how)]
    try:
        status = requests.get(
            f"{url.rstrip('/')}/health", timeout=timeout_s, allow_redirects=False
        ).status_code
    except requests.RequestException as error:
        what = f"{public_url(url)} does not answer ({reason(error)})"
        return [Finding(subject, "wrong", what, "check --mlflow-url; is the port-forward up?")]
    if status != 200:
        what = f"{public_url(url)}/health answers with HTTP {status}"
        return [Finding(subject, "wrong", what, "check --mlflow-url")]
    return [Finding(subject, "ok", public_url(url))]


def check_bucket(bucket: str, credentials: Mapping[str, str], timeout_s: float) -> list[Finding]:
    """The bucket is there and may be used with the credentials that the pods get.

    Args:
        bucket: `s3://NAME` or `s3://NAME/FOLDER`; a folder where there is none.
        credentials: values of the secret `s3-credentials`; those of this machine fill in for missing ones.
        timeout_s: longest wait for the connection and for the answer.
    """
    subject = "bucket"
    if bucket.startswith("/"):
        return [Finding(subject, "ok", f"none is needed: MLflow keeps its artifacts in {bucket}")]
    if not bucket:
        return [Finding(subject, "not checked", "none given", "--bucket s3://NAME")]
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/.*)?", bucket)
    if match is None:
        return [Finding(subject, "wrong", f"{bucket!r} is no bucket", "--bucket s3://NAME")]
    if importlib.util.find_spec("boto3") is None:
        return [Finding(subject, "not checked", "boto3 is not installed", "pip install boto3")]
    endpoint = credentials.get("AWS_ENDPOINT_URL", "")
    if re.search(r"\.svc(\.|$)", urlsplit(endpoint).hostname or ""):
        return [Finding(subject, "not checked", f"{public_url(endpoint)} is inside the cluster")]
    return [_bucket(subject, match[1], _s3_client(credentials, timeout_s))]


def _s3_client(credentials: Mapping[str, str], timeout_s: float) -> Any:
    import boto3
    from botocore.config import Config

    names = {
        "aws_access_key_id": "AWS_ACCESS_KEY_ID",
        "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "endpoint_url": "AWS_ENDPOINT_URL",
        "region_name": "AWS_REGION",
    }
    given = {argument: credentials[name] for argument, name in names.items() if credentials.get(name)}
    limits = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 1})
    return boto3.client("s3", config=limits, **given)


def _bucket(subject: str, name: str, client: Any) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        what = {403: "these credentials may not use it", 404: "is not there"}.get(status, f"HTTP {status}")
        return Finding(subject, "wrong", f"{name}: {what}", "check the bucket and secret s3-credentials")
    except BotoCoreError as error:
        what = f"{name}: {type(error).__name__}"
        return Finding(subject, "wrong", what, "check AWS_ENDPOINT_URL and the credentials")
    return Finding(subject, "ok", name)
