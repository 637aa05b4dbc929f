"""The overlays render, and hold what every manifest of ours has to."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.k8s.rendered import K8S, OVERLAYS, containers, of_kind, overlay, pod_templates, render

CORE_GROUPS = ("v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1")
KUBERNETES_VERSION = "1.32"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_passes_the_strict_schema_of_its_kind(name):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    objects = overlay(name)
    assert len(objects) > 20
    for found in objects:
        assert found["apiVersion"] in CORE_GROUPS
        validator.validate(found, KUBERNETES_VERSION, strict=True)


def test_the_schema_finds_a_key_that_does_not_exist():
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    service = dict(of_kind(overlay("local"), "Service")["mlflow"], spelling="wrong")
    with pytest.raises(validator.ValidationError):
        validator.validate(service, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_in_the_one_namespace_and_names_the_project(name):
    objects = overlay(name)
    cluster_wide = {"Namespace", "PersistentVolume"}
    for found in objects:
        assert found["kind"] in cluster_wide or found["metadata"]["namespace"] == "upsnet"
        if found["kind"] not in cluster_wide - {"Namespace"}:
            assert found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "upsnet"
    for where, template in pod_templates(objects):
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "upsnet", where


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_comes_from_here(name):
    assert of_kind(overlay(name), "Secret") == {}


def test_no_file_holds_a_password_or_key():
    for path in K8S.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert document["kind"] != "Secret", path
            assert "secretGenerator" not in document, path
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", path.read_text()), f"{path}: a password in an address"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_has_requests_and_limits_for_cpu_and_memory(name):
    for where, container in containers(overlay(name)):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), where
        assert {"cpu", "memory"} <= set(resources["limits"]), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_server_has_probes(name):
    servers = [
        container
        for where, template in pod_templates(overlay(name))
        for container in template["spec"]["containers"]
        if where.startswith(("Deployment", "StatefulSet"))
    ]
    assert [server["name"] for server in servers] == ["mlflow", "postgres"]
    for server in servers:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(server)


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_that_is_not_a_server_ends_by_a_deadline(name):
    objects = overlay(name)
    jobs = [found["spec"]["jobTemplate"] for found in of_kind(objects, "CronJob").values()]
    jobs += of_kind(objects, "Job").values()
    assert jobs
    assert all(job["spec"]["activeDeadlineSeconds"] <= 3600 for job in jobs)


@pytest.mark.parametrize("name", OVERLAYS)
def test_two_reapers_never_run_at_once_and_each_ends_before_the_next_is_due(name):
    (reaper,) = of_kind(overlay(name), "CronJob").values()
    spec = reaper["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    every = re.fullmatch(r"\*/(\d+) \* \* \* \*", spec["schedule"])
    assert every
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 60 * int(every[1])


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_image_is_pinned_to_a_version(name):
    for where, container in containers(overlay(name)):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{where}: {container['image']}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_mount_has_its_volume_and_every_volume_its_source(name):
    objects = overlay(name)
    sources = {
        "configMap": ("name", of_kind(objects, "ConfigMap")),
        "persistentVolumeClaim": ("claimName", of_kind(objects, "PersistentVolumeClaim")),
    }
    templates = {
        claim["metadata"]["name"]
        for found in of_kind(objects, "StatefulSet").values()
        for claim in found["spec"]["volumeClaimTemplates"]
    }
    for where, template in pod_templates(objects):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= set(volumes) | templates, where
        for volume in volumes.values():
            for kind, (key, known) in sources.items():
                assert kind not in volume or volume[kind][key] in known, f"{where}: {volume}"


def test_each_local_claim_gets_a_volume_of_its_own_that_is_large_enough():
    objects = overlay("local")
    volumes = of_kind(objects, "PersistentVolume")
    claims = list(of_kind(objects, "PersistentVolumeClaim").values())
    claims += of_kind(objects, "StatefulSet")["mlflow-postgres"]["spec"]["volumeClaimTemplates"]
    for claim in claims:
        spec, volume = claim["spec"], volumes.pop(claim["spec"]["volumeName"])["spec"]
        assert spec["storageClassName"] == volume["storageClassName"]
        assert spec["accessModes"] == volume["accessModes"]
        assert spec["resources"]["requests"]["storage"] == volume["capacity"]["storage"]
    assert volumes == {}


def test_training_pods_on_many_nodes_can_share_the_data_volume():
    for name in OVERLAYS:
        claim = of_kind(overlay(name), "PersistentVolumeClaim")["upsnet-data"]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.fixture
def standalone(tmp_path: Path) -> Path:
    """A copy of k8s/ whose overlays take the component for a Kubeflow Pipelines of one user."""
    copy = Path(shutil.copytree(K8S, tmp_path / "k8s"))
    for name in OVERLAYS:
        path = copy / "overlays" / name / "kustomization.yaml"
        text = path.read_text()
        assert "\n# components: [" in text
        path.write_text(text.replace("\n# components: [", "\ncomponents: ["))
    return copy


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_can_move_into_the_namespace_of_kubeflow_pipelines(standalone, name):
    objects = list(render(standalone / "overlays" / name))
    kinds = {found["kind"] for found in objects}
    assert {"Deployment", "StatefulSet", "CronJob", "RoleBinding", "PersistentVolumeClaim"} <= kinds
    assert not kinds & {"Namespace", "NetworkPolicy", "LimitRange"}
    for found in objects:
        assert found["metadata"].get("namespace", "kubeflow") == "kubeflow"
        assert all(subject["namespace"] == "kubeflow" for subject in found.get("subjects", []))
    assert "namespace: upsnet" not in yaml.safe_dump_all(objects)
