"""What preflight looks at in the Kubernetes API. Each check is one function from a `Cluster` to findings."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import kubernetes.client as k8s

from pipelines.checks import Finding
from pipelines.cluster import GROUP, PLURAL, VERSION, Cluster, ClusterError

STEPS_ACCOUNT, TRAINING_ACCOUNT = "upsnet-pipeline", "upsnet-training"
DATA_VOLUME = "upsnet-data"
SECRETS = {
    "mlflow-credentials": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "mlflow-server": ("FLASK_SECRET_KEY", "POSTGRES_PASSWORD"),
    "s3-credentials": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
"""Secrets and the keys that the steps or MLflow read."""
APPLY = "kubectl apply -k k8s/overlays/local (or gpu)"


def check_api(cluster: Cluster) -> list[Finding]:
    """The Kubernetes API answers."""
    subject = "Kubernetes API"
    try:
        version = cluster.call("version", k8s.VersionApi(cluster.api).get_code)
    except ClusterError as error:
        return [Finding(subject, "wrong", str(error), "check KUBECONFIG and --context")]
    return [Finding(subject, "ok", f"{cluster.host}, {version.git_version}")]


def check_crd(cluster: Cluster) -> list[Finding]:
    """MPIJob of the right version is served."""
    subject, install = "MPIJob (mpi-operator)", "install mpi-operator 0.8 or newer, see the README"
    try:
        served = cluster.call(
            "MPIJob", k8s.CustomObjectsApi(cluster.api).get_api_resources, GROUP, VERSION
        ).resources
    except ClusterError as error:
        if error.status != 404:
            raise
        return [Finding(subject, "wrong", f"{GROUP}/{VERSION} is not served", install)]
    if not any(resource.name == PLURAL for resource in served):
        return [Finding(subject, "wrong", f"{GROUP}/{VERSION} is served, but has no {PLURAL}", install)]
    return [Finding(subject, "ok", f"{GROUP}/{VERSION} is served")]


def check_namespace(cluster: Cluster, namespace: str) -> list[Finding]:
    """Namespace and service accounts are there."""
    core = k8s.CoreV1Api(cluster.api)
    findings = [_presence(cluster, f"namespace {namespace}", core.read_namespace, namespace)]
    if findings[0].status == "wrong":
        return findings
    for name in (STEPS_ACCOUNT, TRAINING_ACCOUNT):
        read = core.read_namespaced_service_account
        findings.append(_presence(cluster, f"service account {name}", read, name, namespace))
    return findings


def check_secret(cluster: Cluster, namespace: str, name: str) -> list[Finding]:
    """A secret has the keys that the steps read; its values are not looked at, but for being there."""
    subject = f"secret {name}"
    found, data = _read(cluster, subject, k8s.CoreV1Api(cluster.api).read_namespaced_secret, name, namespace)
    if data is None and name == "s3-credentials" and found.status == "wrong":
        return [_without_s3(cluster, namespace, found)]
    if data is None:
        return [found]
    lacking = [key for key in SECRETS[name] if not (data.data or {}).get(key)]
    if lacking:
        how = f"kubectl -n {namespace} edit secret {name}, or make it anew, see the README"
        return [Finding(subject, "wrong", f"without a value for {', '.join(lacking)}", how)]
    return [Finding(subject, "ok", "is there, with its keys")]


def _without_s3(cluster: Cluster, namespace: str, missing: Finding) -> Finding:
    """Without a bucket its credentials are not needed."""
    if not artifact_folder(cluster, namespace).startswith("/"):
        return missing
    what = "is not there; MLflow keeps its artifacts in a volume"
    return Finding(missing.subject, "warning", what, "needed only for data in a bucket, see the README")


def artifact_folder(cluster: Cluster, namespace: str) -> str:
    """Where MLflow keeps its artifacts: `s3://...`, a folder, or empty where that cannot be known."""
    try:
        read = k8s.CoreV1Api(cluster.api).read_namespaced_config_map
        settings = cluster.call("config map mlflow-config", read, "mlflow-config", namespace)
    except ClusterError:
        return ""
    return str((settings.data or {}).get("ARTIFACTS_DESTINATION", ""))


def check_volume(cluster: Cluster, namespace: str, workers: int) -> list[Finding]:
    """The volume of the data is bound, or will be by its first pod, and can be shared by the workers."""
    subject = f"volume {DATA_VOLUME}"
    read = k8s.CoreV1Api(cluster.api).read_namespaced_persistent_volume_claim
    found, claim = _read(cluster, subject, read, DATA_VOLUME, namespace)
    if claim is None:
        return [found]
    if claim.status.phase == "Lost":
        return [
            Finding(
                subject, "wrong", "its volume is lost", f"kubectl -n {namespace} describe pvc {DATA_VOLUME}"
            )
        ]
    if claim.status.phase != "Bound":
        return [_pending_volume(cluster, subject, claim.spec.storage_class_name)]
    modes = claim.status.access_modes or []
    if workers > 1 and not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
        what = f"bound, {', '.join(modes)}: the workers can run on one node only"
        return [Finding(subject, "warning", what, "for several nodes: a storage class with ReadWriteMany")]
    return [Finding(subject, "ok", f"bound, {', '.join(modes)}")]


def _pending_volume(cluster: Cluster, subject: str, storage_class: str | None) -> Finding:
    """A volume that is not bound: waiting for its first pod is how some storage classes work."""
    if not storage_class:
        how = "kubectl get storageclass; mark one as default or name one in the overlay"
        return Finding(subject, "wrong", "not bound, and no storage class is named", how)
    read = k8s.StorageV1Api(cluster.api).read_storage_class
    found, known = _read(cluster, f"storage class {storage_class}", read, storage_class)
    if known is None:
        return found
    if known.volume_binding_mode == "WaitForFirstConsumer":
        return Finding(subject, "ok", f"will be bound by its first pod (storage class {storage_class})")
    how = "kubectl describe pvc says why"
    return Finding(subject, "wrong", f"not bound yet by storage class {storage_class}", how)


def check_gpus(cluster: Cluster, workers: int, gpus_per_worker: int) -> list[Finding]:
    """Enough GPUs are on nodes that take pods; how many are free just now is not looked at."""
    subject = "GPUs"
    if gpus_per_worker == 0:
        return [Finding(subject, "ok", "none asked for (--gpus-per-worker)")]
    try:
        nodes = cluster.call("listing nodes", k8s.CoreV1Api(cluster.api).list_node).items
    except ClusterError as error:
        if error.status != 403:
            raise
        return [Finding(subject, "not checked", "you may not list nodes", "ask an administrator")]
    counts = [
        int((node.status.allocatable or {}).get("nvidia.com/gpu", 0)) for node in nodes if _usable(node)
    ]
    possible = sum(count // gpus_per_worker for count in counts)
    what = f"{sum(counts)} on {sum(count > 0 for count in counts)} of {len(nodes)} nodes"
    if possible >= workers:
        return [Finding(subject, "ok", f"{what}, asked: {workers} x {gpus_per_worker}")]
    how = f"--workers {possible}" if possible else "install the NVIDIA device plugin, add GPU nodes"
    return [Finding(subject, "wrong", f"{what}, too few for {workers} x {gpus_per_worker}", how)]


def check_mlflow_service(cluster: Cluster, namespace: str) -> list[Finding]:
    """The Service `mlflow` has a pod that is ready."""
    subject = "MLflow in the cluster"
    read = k8s.CoreV1Api(cluster.api).read_namespaced_service
    found, service = _read(cluster, subject, read, "mlflow", namespace)
    if service is None:
        return [found]
    slices = cluster.call(
        "listing endpoints of mlflow",
        k8s.DiscoveryV1Api(cluster.api).list_namespaced_endpoint_slice,
        namespace,
        label_selector="kubernetes.io/service-name=mlflow",
    ).items
    ready = sum(endpoint.conditions.ready is not False for s in slices for endpoint in s.endpoints or [])
    if not ready:
        how = f"kubectl -n {namespace} get pods; kubectl -n {namespace} describe deployment mlflow"
        return [Finding(subject, "wrong", "no pod of it is ready", how)]
    return [Finding(subject, "ok", f"service mlflow, {ready} pod(s) ready")]


def secret_values(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """The values of a secret, empty where it cannot be read. They must never be shown."""
    try:
        secret = cluster.call("secret", k8s.CoreV1Api(cluster.api).read_namespaced_secret, name, namespace)
        return {key: b64decode(value).decode() for key, value in (secret.data or {}).items()}
    except (ClusterError, binascii.Error, UnicodeDecodeError):
        return {}


def _usable(node: Any) -> bool:
    """Whether a node takes pods at all."""
    conditions = {c.type: c.status for c in node.status.conditions or []}
    return not node.spec.unschedulable and conditions.get("Ready", "True") == "True"


def _presence(cluster: Cluster, subject: str, read: Callable[..., Any], *where: str) -> Finding:
    return _read(cluster, subject, read, *where)[0]


def _read(cluster: Cluster, subject: str, read: Callable[..., Any], *where: str) -> tuple[Finding, Any]:
    """Reads an object: what to say of it, and the object or None."""
    try:
        found = cluster.call(subject, read, *where)
    except ClusterError as error:
        if error.status == 404:
            return Finding(subject, "wrong", "is not there", _how_to_make(subject)), None
        if error.status == 403:
            return Finding(subject, "not checked", "you may not look at it", "ask an administrator"), None
        raise
    return Finding(subject, "ok", "is there"), found


def _how_to_make(subject: str) -> str:
    return "make it, see the README" if subject.startswith("secret") else APPLY
