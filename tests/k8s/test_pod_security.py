"""Every pod of ours keeps to the pod security standard "restricted", and to a little more."""

import pytest

from tests.k8s.rendered import OVERLAYS, Object, containers, of_kind, overlay, pod_templates

ALLOWED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def violations(pod: Object) -> list[str]:
    """What keeps a pod's specification from passing "restricted"."""
    security, found = pod.get("securityContext", {}), []
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("shares the node's namespaces")
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0:
        found.append("may run as root")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("no seccomp profile")
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= ALLOWED_VOLUMES:
            found.append(f"volume {volume['name']}")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append(f"{container['name']} may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{container['name']} keeps capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append(f"{container['name']} takes a port of the node")
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_passes_restricted(name):
    pods = dict(pod_templates(overlay(name)))
    assert {"Deployment/mlflow", "StatefulSet/mlflow-postgres", "CronJob/mpijob-reaper"} <= set(pods)
    assert [(where, found) for where, pod in pods.items() if (found := violations(pod["spec"]))] == []


def test_the_check_finds_what_restricted_forbids():
    template = dict(pod_templates(overlay("local")))["Deployment/mlflow"]
    pod = {**template["spec"], "securityContext": {}, "hostNetwork": True}
    assert violations(pod) == ["shares the node's namespaces", "may run as root", "no seccomp profile"]
    assert violations({**template["spec"], "volumes": [{"name": "node", "hostPath": {"path": "/"}}]})


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_container_can_write_into_its_image(name):
    for where, container in containers(overlay(name)):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, where


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_the_reaper_gets_a_token_of_the_api_server(name):
    objects = overlay(name)
    accounts = of_kind(objects, "ServiceAccount")
    with_token = [
        where
        for where, template in pod_templates(objects)
        if template["spec"].get("automountServiceAccountToken", True)
        and accounts[template["spec"]["serviceAccountName"]].get("automountServiceAccountToken", True)
    ]
    assert with_token == ["CronJob/mpijob-reaper"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_namespace_enforces_baseline_and_tells_what_is_not_restricted(name):
    labels = of_kind(overlay(name), "Namespace")["upsnet"]["metadata"]["labels"]
    levels = {
        key.rpartition("/")[2]: value for key, value in labels.items() if key.startswith("pod-security")
    }
    assert levels == {"enforce": "baseline", "warn": "restricted", "audit": "restricted"}


def test_an_mpijob_s_pods_pass_restricted():
    manifest = pytest.importorskip("components.launchers.manifest")
    job = pytest.importorskip("components.launchers.job").TrainingJob(
        "mini", ("upsnet", "train"), image="upsnet:0.1.0"
    )
    settings = pytest.importorskip("components.launchers.settings").LauncherSettings()
    replicas = manifest.build_manifest(job, settings, {})["spec"]["mpiReplicaSpecs"]
    assert {kind: violations(replica["template"]["spec"]) for kind, replica in replicas.items()} == {
        "Launcher": [],
        "Worker": [],
    }
