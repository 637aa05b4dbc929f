"""`python -m pipelines.preflight` over real HTTP: what is right, what is wrong, and what to do about it."""

import base64
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.checks import Finding, run_checks
from pipelines.cluster_checks import DATA_VOLUME, SECRETS, STEPS_ACCOUNT, TRAINING_ACCOUNT
from pipelines.connection import Connection
from pipelines.permission_checks import NEEDED
from pipelines.preflight import app
from pipelines.program import NAMESPACE
from pipelines.service_checks import check_bucket, check_image, check_mlflow
from tests.horovod_workers import ROOT
from tests.pipelines.running import Ended, run_command, write_kubeconfig
from tests.pipelines.servers import KfpServer, KubernetesServer, Server, never

CORE = "/api/v1/namespaces/upsnet"
CLAIM = f"{CORE}/persistentvolumeclaims/upsnet-data"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/upsnet/endpointslices"
NODES = "/api/v1/nodes"
IMAGE = "registry.example.com/upsnet:0.1.0"


def secret(*keys: str, **values: str) -> dict:
    texts = {**dict.fromkeys(keys, "hidden-value"), **values}
    return {"data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}}


def node(gpus: int = 0, *, cordoned: bool = False, ready: str = "True") -> dict:
    allocatable = {"cpu": "8", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    conditions = [{"type": "Ready", "status": ready}]
    return {
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"allocatable": allocatable, "conditions": conditions},
    }


def claim(phase: str, mode: str = "ReadWriteMany", storage_class: str | None = "shared") -> dict:
    status = {"phase": phase, **({"accessModes": [mode]} if phase == "Bound" else {})}
    return {"spec": {"storageClassName": storage_class, "accessModes": [mode]}, "status": status}


def good_cluster() -> dict[str, dict]:
    """All that a run needs."""
    endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}}
    return {
        "/version/": dict.fromkeys(GIT, "x") | {"gitVersion": "v1.36.0"},
        "/apis/kubeflow.org/v2beta1": {
            "groupVersion": "kubeflow.org/v2beta1",
            "resources": [
                {
                    "name": "mpijobs",
                    "singularName": "",
                    "namespaced": True,
                    "kind": "MPIJob",
                    "verbs": ["get"],
                }
            ],
        },
        "/api/v1/namespaces/upsnet": {},
        f"{CORE}/serviceaccounts/upsnet-pipeline": {},
        f"{CORE}/serviceaccounts/upsnet-training": {},
        f"{CORE}/secrets/mlflow-credentials": secret("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        f"{CORE}/secrets/s3-credentials": secret(
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", AWS_ENDPOINT_URL="http://s3.store.svc:9000"
        ),
        f"{CORE}/secrets/mlflow-server": secret("FLASK_SECRET_KEY", "POSTGRES_PASSWORD"),
        f"{CORE}/configmaps/mlflow-config": {"data": {"ARTIFACTS_DESTINATION": "s3://upsnet-mlflow"}},
        CLAIM: claim("Bound"),
        NODES: {"items": [node(8), node(8), node()]},
        f"{CORE}/services/mlflow": {},
        SLICES: {"items": [{"addressType": "IPv4", "endpoints": [endpoint]}]},
    }


GIT = (
    "buildDate",
    "compiler",
    "gitCommit",
    "gitTreeState",
    "gitVersion",
    "goVersion",
    "major",
    "minor",
    "platform",
)


@pytest.fixture
def good(kfp: KfpServer, kubernetes_api: KubernetesServer) -> KubernetesServer:
    """A cluster in which everything is right, and Kubeflow Pipelines."""
    kubernetes_api.objects = good_cluster()
    return kubernetes_api


def preflight(*arguments: object) -> Ended:
    return run_command(app, "--image", IMAGE, *arguments)


def row(ended: Ended, subject: str) -> str:
    """The text of a row of the table, with its cells joined and its lines folded."""
    lines, found = ended.out.splitlines(), []
    inside = False
    for line in lines:
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[0]:
            inside = subject.startswith(cells[0]) or cells[0].startswith(subject)
        if cells and inside:
            found.append(cells)
    return " | ".join(" ".join(filter(None, column)) for column in zip(*found, strict=True))


def test_all_is_right(good: KubernetesServer) -> None:
    ended = preflight("--workers", 4, "--gpus-per-worker", 4)
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert "16 ok, 0 wrong, 0 warnings, 2 not checked" in ended.out, ended.out
    assert "v1.36.0" in row(ended, "Kubernetes API")
    assert "for many users" in row(ended, "Kubeflow Pipelines")


def test_it_only_looks(good: KubernetesServer) -> None:
    preflight()
    posted = {r.path.rpartition("/")[2] for r in good.requests if r.method != "GET"}
    assert posted == {"selfsubjectaccessreviews", "subjectaccessreviews"}


def test_no_value_of_a_secret_is_shown(good: KubernetesServer) -> None:
    ended = preflight("--bucket", "s3://a-bucket", "--timeout", "3")
    assert "hidden-value" not in ended.out + ended.err
    assert secret("a")["data"]["a"] not in ended.out + ended.err


def removed(path: str) -> Callable[[KubernetesServer], None]:
    return lambda api: api.objects.pop(path) and None


def replaced(path: str, content: dict) -> Callable[[KubernetesServer], None]:
    return lambda api: api.objects.update({path: content})


@pytest.mark.parametrize(
    ("change", "subject", "found", "remedy"),
    [
        (
            removed("/apis/kubeflow.org/v2beta1"),
            "MPIJob",
            "kubeflow.org/v2beta1 is not served",
            "install mpi-op",
        ),
        (
            replaced("/apis/kubeflow.org/v2beta1", {"groupVersion": "kubeflow.org/v2beta1", "resources": []}),
            "MPIJob",
            "has no mpijobs",
            "install mpi-operator",
        ),
        (removed("/api/v1/namespaces/upsnet"), "namespace upsnet", "is not there", "kubectl apply -k"),
        (
            removed(f"{CORE}/serviceaccounts/upsnet-training"),
            "service account upsnet-training",
            "is not",
            "kubectl",
        ),
        (
            removed(f"{CORE}/secrets/s3-credentials"),
            "secret s3-credentials",
            "is not there",
            "see the README",
        ),
        (
            replaced(f"{CORE}/secrets/mlflow-credentials", secret("MLFLOW_TRACKING_USERNAME", "PASSWORD")),
            "secret mlflow-credentials",
            "without a value for MLFLOW_TRACKING_PASSWORD",
            "see the README",
        ),
        (removed(CLAIM), "volume upsnet-data", "is not there", "kubectl apply -k"),
        (replaced(CLAIM, claim("Lost")), "volume upsnet-data", "its volume is lost", "describe pvc"),
        (replaced(CLAIM, claim("Pending")), "storage class shared", "is not there", "kubectl"),
        (
            replaced(CLAIM, claim("Pending", storage_class=None)),
            "volume upsnet-data",
            "no storage class is named",
            "mark one as default",
        ),
        (removed(f"{CORE}/services/mlflow"), "MLflow in the cluster", "is not there", "kubectl apply -k"),
        (
            replaced(SLICES, {"items": []}),
            "MLflow in the cluster",
            "no pod of it is ready",
            "describe deployment",
        ),
    ],
)
def test_one_thing_that_is_wrong_is_named_with_its_remedy(good, change, subject, found, remedy) -> None:
    change(good)
    ended = preflight()
    assert ended.code == 2, ended.out
    text = row(ended, subject)
    assert "wrong" in text, ended.out
    assert found in text
    assert remedy in text
    assert ", 1 wrong," in ended.out


def test_several_faults_are_all_told_at_once(good: KubernetesServer) -> None:
    for path in ("/apis/kubeflow.org/v2beta1", f"{CORE}/secrets/s3-credentials", CLAIM):
        del good.objects[path]
    ended = preflight("--host", "http://127.0.0.1:9")
    assert ended.code == 2
    assert ", 4 wrong," in ended.out


def test_a_volume_that_waits_for_its_first_pod_is_right(good: KubernetesServer) -> None:
    good.objects[CLAIM] = claim("Pending")
    good.objects["/apis/storage.k8s.io/v1/storageclasses/shared"] = {
        "provisioner": "p",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    ended = preflight()
    assert ended.code == 0
    assert "will be bound by its first pod" in row(ended, "volume upsnet-data")


def test_a_volume_for_one_node_is_a_warning_when_several_workers_share_it(good: KubernetesServer) -> None:
    good.objects[CLAIM] = claim("Bound", "ReadWriteOnce")
    assert "warning" not in row(preflight("--workers", 1), "volume upsnet-data")
    ended = preflight("--workers", 2)
    assert ended.code == 0
    assert "the workers can run on one node only" in row(ended, "volume upsnet-data")


def test_the_right_to_remove_mpijobs_is_needed(good: KubernetesServer) -> None:
    good.denied = (("mpijobs", "delete"), ("pods/log", "get"))
    ended = preflight()
    assert ended.code == 2
    assert "missing: mpijobs delete; pods/log get" in row(ended, "your permissions")


def test_rights_that_only_the_steps_need_are_a_warning_for_the_user(good: KubernetesServer) -> None:
    good.denied = (("mpijobs", "create"), ("events", "list"))
    ended = preflight()
    assert ended.code == 0
    assert "warning | missing: mpijobs create; events list" in row(ended, "your permissions")


def test_the_steps_service_account_needs_all_its_rights(good: KubernetesServer) -> None:
    good.denied_to_steps = (("mpijobs", "create"), ("pods", "watch"))
    ended = preflight()
    assert ended.code == 2
    assert "missing: mpijobs create; pods watch" in row(ended, "permissions of upsnet-pipeline")
    reviews = [r.body["spec"] for r in good.requests if r.path.endswith("/subjectaccessreviews")]
    assert {review["user"] for review in reviews} == {"system:serviceaccount:upsnet:upsnet-pipeline"}
    asked = {
        (r["resourceAttributes"]["resource"], r["resourceAttributes"].get("subresource")) for r in reviews
    }
    assert asked == {("mpijobs", None), ("pods", None), ("pods", "log"), ("events", None)}


def test_who_may_not_look_is_told_whom_to_ask(good: KubernetesServer) -> None:
    good.forbidden = (
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        f"{CORE}/secrets/s3-credentials",
        NODES,
    )
    ended = preflight("--gpus-per-worker", 1)
    assert ended.code == 0
    assert "not checked" in row(ended, "permissions of upsnet-pipeline")
    assert "kubectl auth can-i create mpijobs" in row(ended, "permissions of upsnet-pipeline")
    assert "you may not look at it" in row(ended, "secret s3-credentials")
    assert "you may not list nodes" in row(ended, "GPUs")


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "found"),
    [
        ([node(), node()], 1, 1, "0 on 0 of 2 nodes, too few for 1 x 1"),
        ([node(4), node(4)], 1, 8, "8 on 2 of 2 nodes, too few for 1 x 8"),
        (
            [node(8), node(8, cordoned=True), node(8, ready="False")],
            2,
            8,
            "8 on 1 of 3 nodes, too few for 2 x 8",
        ),
    ],
)
def test_too_few_gpus_are_wrong(good: KubernetesServer, nodes, workers, gpus, found) -> None:
    good.objects[NODES] = {"items": nodes}
    ended = preflight("--workers", workers, "--gpus-per-worker", gpus)
    assert ended.code == 2
    assert found in row(ended, "GPUs")


def test_without_gpus_asked_for_none_is_needed(good: KubernetesServer) -> None:
    good.objects[NODES] = {"items": [node()]}
    assert preflight().code == 0


def test_kubeflow_of_one_user_elsewhere_starts_its_pods_elsewhere(good, kfp: KfpServer) -> None:
    kfp.multi_user = False
    ended = preflight()
    assert ended.code == 2
    assert "not in upsnet" in row(ended, "namespace of the runs")
    good.objects[f"{CORE}/services/ml-pipeline"] = {}
    assert preflight().code == 0


def test_kubeflow_that_asks_for_a_login_is_wrong(good: KubernetesServer, kfp: KfpServer) -> None:
    kfp.token = "right"
    ended = preflight("--token", "wrong-but-secret")
    assert ended.code == 2
    assert "asks for a login" in row(ended, "Kubeflow Pipelines")
    assert "wrong-but-secret" not in ended.out


def test_without_a_kubernetes_api_the_rest_is_looked_at(kfp, environment, tmp_path: Path) -> None:
    with KubernetesServer() as gone:
        url = gone.url
    environment.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
    ended = preflight()
    assert ended.code == 2
    assert "does not answer" in row(ended, "Kubernetes API")
    assert ", 1 wrong," in ended.out, ended.out
    assert "ok" in row(ended, "Kubeflow Pipelines")


def test_without_a_kubeconfig_the_rest_is_looked_at(kfp, environment, tmp_path: Path) -> None:
    environment.setenv("KUBECONFIG", str(tmp_path / "missing"))
    ended = preflight()
    assert ended.code == 2
    assert "no Kubernetes cluster is configured" in row(ended, "Kubernetes API")
    assert "ok" in row(ended, "Kubeflow Pipelines")


def test_a_silent_server_holds_up_nothing_else(good: KubernetesServer) -> None:
    good.before = lambda request: never(request) if request.path == CLAIM else None
    ended = preflight("--timeout", "2")
    assert ended.code == 2
    assert "wrong" in row(ended, "volume upsnet-data")
    assert ", 1 wrong," in ended.out, ended.out


def test_a_check_that_never_returns_or_breaks_leaves_the_others_alone() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("a fault of ours")

    fine = [Finding("fine", "ok", "yes")]
    checks = [("slow", lambda: never(None) or []), ("broken", broken), ("fine", lambda: fine)]
    slow, failed, last = run_checks(checks, 0.5)
    assert (slow.status, slow.found) == ("wrong", "no answer within 0.5 s")
    assert (failed.status, failed.found) == (
        "wrong",
        "the check itself failed: RuntimeError: a fault of ours",
    )
    assert last is fine[0]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("registry.example.com:5000/team/upsnet:0.1.0", "ok"),
        ("localhost:5000/upsnet:0.1.0-cuda", "ok"),
        (f"ghcr.io/team/upsnet@sha256:{'0' * 64}", "ok"),
        (f"ghcr.io/team/upsnet:latest@sha256:{'0' * 64}", "ok"),
        ("team/upsnet:0.1.0", "ok"),
        ("upsnet:0.1.0", "warning"),
        ("ghcr.io/team/upsnet:latest", "wrong"),
        ("ghcr.io/team/upsnet", "wrong"),
        ("localhost:5000/upsnet", "wrong"),
        ("Team/UPSNet:1", "wrong"),
        ("https://ghcr.io/team/upsnet:1", "wrong"),
        ("ghcr.io/team/upsnet:", "wrong"),
        ("ghcr.io/team/upsnet:1 ", "wrong"),
        (f"ghcr.io/team/upsnet@sha256:{'0' * 63}", "wrong"),
        ("", "wrong"),
    ],
)
def test_image_names_are_judged_by_their_grammar_and_tag(name: str, status: str) -> None:
    (finding,) = check_image(name)
    assert finding.status == status


class Plain(Server):
    """Answers `/health` as MLflow does."""

    status = 200

    def answer(self, request):
        return (self.status, "OK") if request.path == "/health" else (404, "")


def test_mlflow_is_reached_at_the_address_that_is_given(environment) -> None:
    with Plain() as server:
        assert check_mlflow(server.url + "/", 5)[0].status == "ok"
        server.status = 500
        assert "HTTP 500" in check_mlflow(server.url, 5)[0].found
    assert check_mlflow(server.url, 5)[0].status == "wrong"
    assert check_mlflow("", 5)[0].status == check_mlflow("sqlite:///mlflow.db", 5)[0].status == "not checked"


def test_where_artifacts_lie_in_a_volume_no_bucket_is_needed(good: KubernetesServer) -> None:
    good.objects[f"{CORE}/configmaps/mlflow-config"] = {"data": {"ARTIFACTS_DESTINATION": "/mlartifacts"}}
    del good.objects[f"{CORE}/secrets/s3-credentials"]
    ended = preflight()
    assert ended.code == 0
    assert "warning" in row(ended, "secret s3-credentials")
    assert "none is needed" in row(ended, "bucket")


@pytest.mark.parametrize("bucket", ["a-bucket", "s3://", "s3://A_B", "http://a-bucket"])
def test_what_is_no_bucket_is_wrong(bucket: str) -> None:
    assert check_bucket(bucket, {}, 1)[0].status == "wrong"


@pytest.mark.skipif(importlib.util.find_spec("boto3") is not None, reason="boto3 is installed")
def test_without_boto3_the_bucket_is_not_checked() -> None:
    assert check_bucket("s3://a-bucket", {}, 1)[0].found == "boto3 is not installed"


def test_a_bucket_is_asked_for_with_the_credentials_of_the_secret() -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed")

    class S3(Server):
        status = 200

        def answer(self, request):
            return self.status, ""

    credentials = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-key", "AWS_REGION": "eu-west-1"}
    with S3() as server:
        given = {**credentials, "AWS_ENDPOINT_URL": server.url}
        assert check_bucket("s3://a-bucket/folder", given, 5)[0].status == "ok"
        assert "Credential=an-id/" in server.requests[0].headers["authorization"]
        for status, words in ((403, "may not use it"), (404, "is not there"), (500, "HTTP 500")):
            server.status = status
            assert words in check_bucket("s3://a-bucket", given, 5)[0].found
    assert check_bucket("s3://a-bucket", given, 5)[0].status == "wrong"
    inside = {**credentials, "AWS_ENDPOINT_URL": "http://minio.kubeflow.svc.cluster.local:9000"}
    assert check_bucket("s3://a-bucket", inside, 5)[0].status == "not checked"


def test_credentials_are_not_in_the_words_for_a_connection() -> None:
    assert "secret" not in repr(Connection("http://x", token="secret", cookie="secret"))


MANIFESTS = ROOT / "k8s"


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="there is no k8s/")
def test_preflight_asks_for_what_the_manifests_give() -> None:
    texts = [path.read_text() for path in sorted((MANIFESTS / "base").glob("*.yaml"))]
    objects = [d for text in texts for d in yaml.safe_load_all(text) if d]
    named = {(d["kind"], d["metadata"]["name"]): d for d in objects if "name" in d.get("metadata", {})}
    given = {
        (group, resource): tuple(rule["verbs"])
        for rule in named["Role", STEPS_ACCOUNT]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert {key: given[key] for key in NEEDED} == NEEDED
    for kind, name in [
        ("Namespace", NAMESPACE),
        ("ServiceAccount", STEPS_ACCOUNT),
        ("ServiceAccount", TRAINING_ACCOUNT),
        ("PersistentVolumeClaim", DATA_VOLUME),
        ("Service", "mlflow"),
        ("ConfigMap", "mlflow-config"),
    ]:
        assert (kind, name) in named
    for name, keys in SECRETS.items():
        assert any(name in text for text in texts)
        if name != "s3-credentials":
            assert all(f"{{name: {name}, key: {key}}}" in "".join(texts) for key in keys)
