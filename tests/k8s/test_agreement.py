"""Names, ports, secrets and accounts are the same in manifests, launchers, pipelines and image."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from components import training
from components.image import IMAGE
from components.launchers import TrainingJob, manifest
from components.launchers.settings import LauncherSettings
from pipelines import cluster_checks, permission_checks, program, step_settings, submit
from tests.k8s.rendered import (
    OVERLAYS,
    ROOT,
    Object,
    containers,
    of_kind,
    overlay,
    pod_templates,
    secret_references,
)

README = (ROOT / "k8s" / "README.md").read_text()


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return overlay(request.param)


def documented_secrets() -> dict[str, set[str]]:
    """Every Secret that the README makes, and its keys."""
    found: dict[str, set[str]] = {}
    joined = README.replace("\\\n", " ")
    for name, options in re.findall(r"create secret generic ([\w-]+)([^\n]*)", joined):
        found.setdefault(name, set()).update(re.findall(r"--from-literal=(\w+)=", options))
    return found


def test_the_namespace_is_the_one_that_the_commands_assume(objects):
    assert list(of_kind(objects, "Namespace")) == [program.NAMESPACE]


def test_the_service_accounts_that_the_pipelines_name_exist(objects):
    accounts = set(of_kind(objects, "ServiceAccount"))
    assert {submit.SERVICE_ACCOUNT, cluster_checks.STEPS_ACCOUNT, cluster_checks.TRAINING_ACCOUNT} <= accounts
    assert manifest.SERVICE_ACCOUNT in accounts
    named = {template["spec"].get("serviceAccountName", "default") for _, template in pod_templates(objects)}
    assert named <= accounts | {"default"}


def test_every_binding_joins_a_role_and_an_account_that_exist(objects):
    accounts, roles = of_kind(objects, "ServiceAccount"), of_kind(objects, "Role")
    for binding in of_kind(objects, "RoleBinding").values():
        assert binding["roleRef"]["name"] in roles
        for subject in binding["subjects"]:
            assert subject["name"] in accounts
            assert subject["namespace"] == accounts[subject["name"]]["metadata"]["namespace"]


def granted(objects: list[Object], role: str) -> dict[tuple[str, str], set[str]]:
    """Group and resource, and the verbs that a role allows on all of its objects."""
    return {
        (group, resource): set(rule["verbs"])
        for rule in of_kind(objects, "Role")[role]["rules"]
        if "resourceNames" not in rule
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_steps_may_do_what_preflight_asks_for_and_little_more(objects):
    allowed = granted(objects, submit.SERVICE_ACCOUNT)
    for resource, verbs in permission_checks.NEEDED.items():
        assert set(verbs) <= allowed[resource]
    assert set(allowed) - set(permission_checks.NEEDED) == {("argoproj.io", "workflowtaskresults")}


def test_no_role_allows_everything_or_reads_all_secrets(objects):
    for role in of_kind(objects, "Role").values():
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "secrets" not in rule["resources"] or rule["resourceNames"]
    assert not {found["kind"] for found in objects} & {"ClusterRole", "ClusterRoleBinding"}


def test_the_reaper_may_list_and_delete_mpijobs_and_look_at_pods(objects):
    assert granted(objects, "upsnet-reaper") == {
        ("kubeflow.org", "mpijobs"): {"list", "delete"},
        ("", "pods"): {"get"},
    }


def test_the_reaper_s_command_is_one_that_exists(objects):
    (container,) = [found for where, found in containers(objects) if where.startswith("CronJob")]
    assert container["args"][0] == "python"
    command = [sys.executable, *container["args"][1:]]
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--namespace" in command


def test_our_image_is_the_one_of_the_components():
    ours = {c["image"] for where, c in containers(overlay("local")) if "postgres" not in where}
    assert ours == {IMAGE}


def test_the_gpu_overlay_takes_the_same_version_built_for_cuda():
    ours = {c["image"] for where, c in containers(overlay("gpu")) if "postgres" not in where}
    assert {image.rpartition("/")[2] for image in ours} == {f"{IMAGE}-cuda"}


def test_the_data_volume_is_the_one_that_the_steps_mount(objects):
    claims = set(of_kind(objects, "PersistentVolumeClaim"))
    assert {step_settings.DATA_CLAIM, cluster_checks.DATA_VOLUME} <= claims


def test_mlflow_is_where_the_steps_look_for_it(objects):
    config = of_kind(objects, "ConfigMap")[step_settings.MLFLOW_CONFIG]["data"]
    service = of_kind(objects, "Service")["mlflow"]
    port = service["spec"]["ports"][0]["port"]
    assert config["MLFLOW_TRACKING_URI"] == f"http://{service['metadata']['name']}:{port}"
    server = dict(containers(objects))["Deployment/mlflow/mlflow"]
    assert f"--port={port}" in server["args"]
    assert [entry["containerPort"] for entry in server["ports"]] == [port]
    (hosts,) = [entry["value"] for entry in server["env"] if entry["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert f"mlflow:{port}" in hosts.split(",")


def test_every_service_finds_its_pod_and_port(objects):
    templates = [template for _, template in pod_templates(objects)]
    for service in of_kind(objects, "Service").values():
        selector = service["spec"]["selector"].items()
        (pod,) = [template for template in templates if selector <= template["metadata"]["labels"].items()]
        named = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_mlflow_asks_its_database_by_name_port_and_user_of_the_stateful_set(objects):
    service = of_kind(objects, "Service")["mlflow-postgres"]
    port = service["spec"]["ports"][0]["port"]
    found = dict(containers(objects))
    values = {
        where: {entry["name"]: entry.get("value") for entry in container["env"]}
        for where, container in found.items()
        if "env" in container
    }
    database = values["StatefulSet/mlflow-postgres/postgres"]
    address = f"postgresql+psycopg://mlflow-postgres:{port}/{database['POSTGRES_DB']}"
    assert f"--backend-store-uri={address}" in found["Deployment/mlflow/mlflow"]["args"]
    assert found["Deployment/mlflow/tables"]["args"][-1] == address
    assert (
        f"database_uri = {address}\n"
        in of_kind(objects, "ConfigMap")["mlflow-config"]["data"]["basic_auth.ini"]
    )
    assert values["Deployment/mlflow/mlflow"]["PGUSER"] == database["POSTGRES_USER"]


def test_every_secret_that_a_container_needs_is_made_in_the_readme_with_its_keys(objects):
    made = documented_secrets()
    references = secret_references(objects)
    assert {name for name, _, _ in references} == {"mlflow-credentials", "mlflow-server", "s3-credentials"}
    for name, key, _ in references:
        assert name in made
        assert key is None or key in made[name]


def test_the_secrets_of_steps_ranks_and_preflight_are_made_in_the_readme():
    made = documented_secrets()
    assert set(training.SECRETS) == {step_settings.MLFLOW_SECRET, step_settings.S3_SECRET}
    assert set(step_settings.MLFLOW_KEYS) <= made[step_settings.MLFLOW_SECRET]
    assert set(step_settings.S3_KEYS) <= made[step_settings.S3_SECRET]
    for name, keys in cluster_checks.SECRETS.items():
        assert set(keys) <= made[name]


def test_without_s3_nothing_of_s3_is_needed():
    optional = {name: optional for name, _, optional in secret_references(overlay("local"))}
    assert optional["s3-credentials"] is True
    assert {name: opt for name, _, opt in secret_references(overlay("gpu"))}["s3-credentials"] is False


def test_the_gpu_check_asks_for_what_the_train_step_asks_for():
    spec = of_kind(overlay("gpu"), "Job")["gpu-check"]["spec"]["template"]["spec"]
    assert step_settings.GPU in spec["containers"][0]["resources"]["limits"]
    assert [(t["key"], t["operator"], t["effect"]) for t in spec["tolerations"]] == [
        (step_settings.GPU, "Exists", "NoSchedule")
    ]
    (memory,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shared-memory"]
    assert memory == {"medium": "Memory", "sizeLimit": step_settings.SHARED_MEMORY}
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_the_gpu_check_is_a_program():
    (container,) = of_kind(overlay("gpu"), "Job")["gpu-check"]["spec"]["template"]["spec"]["containers"]
    compile(container["args"][2], "gpu-check", "exec")


def test_a_training_s_pods_use_what_the_manifests_and_the_image_have():
    job = TrainingJob("mini", ("upsnet", "train"), image=IMAGE, secret_names=training.SECRETS)
    text = json.dumps(manifest.build_manifest(job, LauncherSettings(), {}))
    assert f'"serviceAccountName": "{manifest.SERVICE_ACCOUNT}"' in text
    assert "start-sshd" in text
    assert (ROOT / "image" / "start-sshd").exists()


def test_the_network_policies_tell_pods_apart_by_labels_that_the_operator_sets(objects):
    text = yaml.safe_dump_all(of_kind(objects, "NetworkPolicy").values())
    from components.launchers.cluster import JOB_LABEL

    assert JOB_LABEL in text


def test_every_overlay_component_and_file_that_the_readme_names_exists():
    named = set(re.findall(r"k8s/[\w./-]+\w", README))
    assert {"k8s/overlays/local", "k8s/overlays/gpu", "k8s/components/standalone"} <= named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_lists_what_is_applied():
    listed = re.findall(r"^([a-z]+)(?:\.[a-z0-9.]+)?/([\w-]+) (?:created|configured)$", README, re.MULTILINE)
    applied = {(found["kind"].lower(), found["metadata"]["name"]) for found in overlay("local")}
    assert {entry for entry in listed if entry[0] != "secret"} == applied


def test_the_readme_prepares_the_folders_of_the_local_volumes():
    objects = overlay("local")
    paths = {found["spec"]["hostPath"]["path"] for found in of_kind(objects, "PersistentVolume").values()}
    lines = re.findall(r"install -d -o (\d+) -g \1 -m 7[07]0 (.*)$", README, re.MULTILINE)
    owners = {path: int(owner) for owner, listed in lines for path in listed.split()}
    assert set(owners) == paths
    pods = dict(pod_templates(objects))
    users = {where: template["spec"]["securityContext"]["runAsUser"] for where, template in pods.items()}
    assert owners["/var/lib/upsnet/mlflow-postgres"] == users["StatefulSet/mlflow-postgres"]
    assert owners["/var/lib/upsnet/mlflow-artifacts"] == users["Deployment/mlflow"]
    assert owners["/var/lib/upsnet/data"] == manifest.USER
