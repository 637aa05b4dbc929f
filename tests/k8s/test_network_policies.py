"""The network policies let through what the parts need of each other, and nothing else.

`may_connect` decides as the specification of NetworkPolicy says, for the fields that ours use.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

import pytest

from tests.k8s.rendered import OVERLAYS, Object, of_kind, overlay, pod_templates

API_SERVER, S3 = "10.96.0.1", "52.218.0.1"


@dataclass(frozen=True)
class Pod:
    """A pod, or with an address something outside of the cluster's pods."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "upsnet"
    address: str = "10.0.0.9"


STEP = Pod({"pipelines.kubeflow.org/v2_component": "true"})
WORKER = Pod({"training.kubeflow.org/job-name": "upsnet-a", "training.kubeflow.org/job-role": "worker"})
LAUNCHER = Pod({"training.kubeflow.org/job-name": "upsnet-a", "training.kubeflow.org/job-role": "launcher"})
MLFLOW = Pod({"app.kubernetes.io/name": "mlflow"})
POSTGRES = Pod({"app.kubernetes.io/name": "mlflow-postgres"})
REAPER = Pod({"app.kubernetes.io/name": "mpijob-reaper"})
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
PIPELINES = Pod({"app": "ml-pipeline"}, "kubeflow")
STRANGER = Pod({"app": "stranger"})
OUTSIDE = Pod(namespace="", address=S3)
API = Pod(namespace="", address=API_SERVER)

NEEDED = {
    "a step logs to MLflow": (STEP, MLFLOW, 5000),
    "a rank logs to MLflow": (WORKER, MLFLOW, 5000),
    "MLflow reaches its database": (MLFLOW, POSTGRES, 5432),
    "MLflow stores artifacts": (MLFLOW, OUTSIDE, 443),
    "a step reads and writes S3": (STEP, OUTSIDE, 443),
    "a rank reads and writes S3": (WORKER, OUTSIDE, 443),
    "a step makes an MPIJob": (STEP, API, 443),
    "a step makes an MPIJob, port of the server itself": (STEP, API, 6443),
    "the reaper asks the API server": (REAPER, API, 6443),
    "a step reports to Kubeflow Pipelines": (STEP, PIPELINES, 8887),
    "a step stores artifacts of the pipeline": (STEP, PIPELINES, 9000),
    "mpirun reaches a worker by ssh": (LAUNCHER, WORKER, 2222),
    "a worker's daemon answers mpirun": (WORKER, LAUNCHER, 41234),
    "ranks reduce gradients": (WORKER, WORKER, 52345),
    "a step asks DNS": (STEP, DNS, 53),
    "a worker asks DNS": (WORKER, DNS, 53),
    "MLflow asks DNS": (MLFLOW, DNS, 53),
    "the reaper asks DNS": (REAPER, DNS, 53),
}
FORBIDDEN = {
    "a rank in MLflow's database": (WORKER, POSTGRES, 5432),
    "a step in MLflow's database": (STEP, POSTGRES, 5432),
    "another pod in MLflow": (STRANGER, MLFLOW, 5000),
    "another namespace in MLflow": (Pod({"app": "x"}, "default"), MLFLOW, 5000),
    "a step of another namespace in MLflow": (Pod(STEP.labels, "other"), MLFLOW, 5000),
    "another pod at a worker's ssh": (STRANGER, WORKER, 2222),
    "a step at a worker's ssh": (STEP, WORKER, 2222),
    "the database at the world": (POSTGRES, OUTSIDE, 443),
    "MLflow at a worker": (MLFLOW, WORKER, 2222),
    "a rank at Kubeflow Pipelines": (WORKER, PIPELINES, 8888),
    "a rank at any port outside": (WORKER, OUTSIDE, 80),
    "the reaper at MLflow": (REAPER, MLFLOW, 5000),
    "another pod at anything": (STRANGER, OUTSIDE, 443),
}


def may_connect(policies: list[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether the policies let a TCP connection leave the one and reach the other."""
    ways = (("Egress", "egress", "to", source, target), ("Ingress", "ingress", "from", target, source))
    return all(_one_way(policies, *way, port) for way in ways)


def _one_way(
    policies: list[Object], kind: str, rules: str, peers: str, pod: Pod, other: Pod, port: int
) -> bool:
    if pod.namespace != "upsnet":
        return True
    specs = [policy["spec"] for policy in policies]
    chosen = [s for s in specs if kind in s["policyTypes"] and _selects(s["podSelector"], pod.labels)]
    if not chosen:
        return True
    return any(_rule_allows(rule, peers, other, port) for spec in chosen for rule in spec.get(rules, []))


def _rule_allows(rule: Object, peers: str, other: Pod, port: int) -> bool:
    ports = [entry["port"] for entry in rule.get("ports", []) if entry["protocol"] == "TCP"]
    if "ports" in rule and port not in ports:
        return False
    return peers not in rule or any(_is_peer(peer, other) for peer in rule[peers])


def _is_peer(peer: Object, other: Pod) -> bool:
    if "ipBlock" in peer:
        return ipaddress.ip_address(other.address) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace}
        return _selects(peer["namespaceSelector"], labels) and _selects(
            peer.get("podSelector", {}), other.labels
        )
    return other.namespace == "upsnet" and _selects(peer["podSelector"], other.labels)


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "Exists" for expression in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        expression["key"] in labels for expression in expressions
    )


@pytest.fixture(params=OVERLAYS)
def policies(request: pytest.FixtureRequest) -> list[Object]:
    return list(of_kind(overlay(request.param), "NetworkPolicy").values())


@pytest.mark.parametrize("what", NEEDED)
def test_what_is_needed_is_let_through(policies, what):
    assert may_connect(policies, *NEEDED[what])


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_rest_is_not(policies, what):
    assert not may_connect(policies, *FORBIDDEN[what])


def test_without_policies_everything_would_be_let_through():
    assert may_connect([], *FORBIDDEN["another pod in MLflow"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_labels_that_these_tests_go_by_are_those_of_the_pods(name):
    names = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]
        for _, template in pod_templates(overlay(name))
    }
    assert {pod.labels["app.kubernetes.io/name"] for pod in (MLFLOW, POSTGRES, REAPER)} <= names


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_port_of_a_container_is_one_that_somebody_may_reach(name):
    objects = overlay(name)
    policies = list(of_kind(objects, "NetworkPolicy").values())
    clients = [STEP, WORKER, MLFLOW]
    for where, template in pod_templates(objects):
        server = Pod(template["metadata"]["labels"])
        for container in template["spec"]["containers"]:
            for port in container.get("ports", []):
                number = port["containerPort"]
                assert any(may_connect(policies, client, server, number) for client in clients), (
                    where,
                    number,
                )
