"""The MPIJob that is built, and what is refused before anything is created."""

import json
import re
from typing import Any

import pytest

from components.launchers import LaunchError, TrainingJob
from components.launchers.environment import literal
from components.launchers.manifest import build_manifest
from components.launchers.naming import check_name, job_name, label_value
from tests.components.launchers.cluster_server import SCHEMA, validator
from tests.components.launchers.conftest import QUICK, STEP
from tests.components.launchers.jobs import small_job

# As a pipeline step with GPUs hands it on, all numbers as floats.
TASK_CONFIG: dict[str, Any] = {
    "affinity": None,
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "tolerationSeconds": 300.0}],
    "node_selector": {"pool": "gpu"},
    "env": [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token", "optional": True}}}
    ],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "upsnet-data"}}],
    "volume_mounts": [{"name": "data", "mountPath": "/data"}],
    "resources": {
        "requests": {"cpu": "4"},
        "limits": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 4.0},
    },
}
GPU_JOB = small_job(
    slots_per_worker=4,
    gpus_per_worker=4,
    task_config=TASK_CONFIG,
    environment={"MLFLOW_RUN_ID": "abc", "ODD": "$(HOME) costs 5$"},
    secret_names=("mlflow-credentials", "s3-credentials"),
)


def build(job: TrainingJob | None = None, **environ: str) -> dict[str, Any]:
    return build_manifest(job or small_job(), QUICK, {**STEP, **environ})


def pod(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]
    return spec


def container(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = pod(manifest, role)["containers"]
    return only


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of a text in `args` or `env`."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


@pytest.mark.parametrize("job", [small_job(), GPU_JOB], ids=["small", "gpu"])
def test_the_manifest_passes_the_strict_schema(job: TrainingJob) -> None:
    if (schema := validator()) is None:
        pytest.skip(f"the schema ({SCHEMA}) or the package jsonschema is not on this machine")
    schema.validate(json.loads(json.dumps(build(job))))


def test_policies_free_the_gpus_and_bound_the_job() -> None:
    spec = build(small_job(backoff_limit=2, timeout_s=600))["spec"]
    assert spec["runPolicy"] == {
        "cleanPodPolicy": "Running",
        "backoffLimit": 2,
        "activeDeadlineSeconds": 660,
        "ttlSecondsAfterFinished": QUICK.keep_s,
    }
    assert spec["slotsPerWorker"] == 1
    assert spec["sshAuthMountPath"] == "/home/upsnet/.ssh"
    assert spec["launcherCreationPolicy"] == "WaitForWorkersReady"


def test_mpirun_gets_the_host_file_and_every_rank_expects_all_others() -> None:
    args = container(build(GPU_JOB), "Launcher")["args"]
    mpirun = args[args.index("mpirun") :]
    assert mpirun[1:5] == ["--hostfile", "/etc/mpi/hostfile", "-np", "8"]
    assert mpirun[-10:] == [*GPU_JOB.command, "--expect-workers", "8"]


@pytest.mark.parametrize("role", ["Launcher", "Worker"])
def test_both_pods_are_restricted_and_outside_of_the_mesh(role: str) -> None:
    manifest = build()
    template = manifest["spec"]["mpiReplicaSpecs"][role]["template"]
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    security = template["spec"]["securityContext"]
    assert (security["runAsUser"], security["fsGroup"], security["runAsNonRoot"]) == (1000, 1000, True)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container(manifest, role)["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert template["spec"]["serviceAccountName"] == "upsnet-training"
    assert template["spec"]["automountServiceAccountToken"] is False
    assert {*container(manifest, role)["resources"]} == {"requests", "limits"}


def test_a_worker_is_ready_when_its_sshd_listens() -> None:
    worker = container(build(), "Worker")
    assert worker["readinessProbe"]["tcpSocket"] == {"port": 2222}
    assert worker["ports"] == [{"name": "ssh", "containerPort": 2222}]


def test_workers_get_the_settings_of_the_step() -> None:
    manifest = build(GPU_JOB)
    worker = container(manifest, "Worker")
    assert worker["resources"] == {
        "requests": {"cpu": "4", "memory": "64Gi", "nvidia.com/gpu": "4"},
        "limits": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"},
    }
    assert {"name": "data", "mountPath": "/data"} in worker["volumeMounts"]
    assert TASK_CONFIG["volumes"][0] in pod(manifest, "Worker")["volumes"]
    for role in ("Launcher", "Worker"):
        assert pod(manifest, role)["nodeSelector"] == {"pool": "gpu"}
        toleration = pod(manifest, role)["tolerations"][0]
        assert json.dumps(toleration["tolerationSeconds"]) == "300"  # 300.0 would be refused


def test_the_launcher_holds_no_gpu_and_no_secret() -> None:
    launcher = container(build(GPU_JOB), "Launcher")
    assert {*launcher["resources"]["limits"]} == {"cpu", "memory"}
    assert launcher["env"] == []
    assert launcher["envFrom"] == []


def test_shared_memory_comes_from_the_step_or_by_default() -> None:
    mounts = container(build(), "Worker")["volumeMounts"]
    assert {"name": "upsnet-dshm", "mountPath": "/dev/shm"} in mounts
    own = {
        "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}}],
        "volume_mounts": [{"name": "dshm", "mountPath": "/dev/shm"}],
    }
    mounts = container(build(small_job(task_config=own)), "Worker")["volumeMounts"]
    assert [mount["name"] for mount in mounts if mount["mountPath"] == "/dev/shm"] == ["dshm"]


def test_secrets_and_the_settings_of_mlflow_and_s3_are_on_the_workers() -> None:
    environ = {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLFLOW_RUN_ID": "of the step",
        "MLFLOW_TRACKING_PASSWORD": "secret of the step",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "AWS_SECRET_ACCESS_KEY": "secret of the step",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/a/file/of/the/step",
        "HOME": "/root",
    }
    manifest = build(GPU_JOB, **environ)
    worker = container(manifest, "Worker")
    assert worker["envFrom"] == [
        {"secretRef": {"name": "mlflow-credentials", "optional": True}},
        {"secretRef": {"name": "s3-credentials", "optional": True}},
    ]
    values = {entry["name"]: entry.get("value") for entry in worker["env"]}
    assert values.pop("TOKEN") is None
    assert values == {
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "MLFLOW_RUN_ID": "abc",  # the job's own word comes last
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "ODD": literal("$(HOME) costs 5$"),
        "OMP_NUM_THREADS": "2",
    }
    assert "secret of the step" not in json.dumps(manifest)


@pytest.mark.parametrize("text", ["$(HOME)", "$$", "a $(b) $$(c) $d $$$", "$", "", "no dollar"])
def test_kubernetes_leaves_texts_as_they_are(text: str) -> None:
    assert expanded(literal(text), {"HOME": "/root", "b": "x", "c": "y"}) == text


def test_the_job_belongs_to_the_pod_of_the_step() -> None:
    metadata = build()["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": STEP["KFP_POD_NAME"], "uid": STEP["KFP_POD_UID"]}
    assert metadata["ownerReferences"] == [{**owner, "controller": False, "blockOwnerDeletion": False}]
    assert metadata["labels"]["upsnet.dev/owner-pod"] == STEP["KFP_POD_NAME"]
    assert metadata["annotations"]["upsnet.dev/run-id"] == "4f1f2a3b-5c6d"


def test_outside_of_a_pod_the_job_has_no_owner_and_no_mark_for_the_reaper() -> None:
    metadata = build_manifest(small_job(), QUICK, {})["metadata"]
    assert "ownerReferences" not in metadata
    assert "upsnet.dev/owner-pod" not in metadata["labels"]


def test_the_long_name_of_a_pod_fits_into_a_label() -> None:
    names = ["p" * 63, "p" * 64, "p" * 64 + "q"]
    values = [label_value(name) for name in names]
    assert values[0] == names[0]
    assert len({*values}) == 3
    assert all(len(value) <= 63 for value in values)
    metadata = build(KFP_POD_NAME=names[2])["metadata"]
    assert metadata["annotations"]["upsnet.dev/owner-pod"] == names[2]


def test_the_name_depends_on_run_and_step_alone() -> None:
    first = job_name(small_job())
    assert first == job_name(small_job(workers=7, image="other:1"))
    others = {job_name(small_job(run_id="another")), job_name(small_job(name="other"))}
    assert len({first, *others}) == 3
    assert re.fullmatch(r"upsnet-mini-[0-9a-f]{10}", first)


@pytest.mark.parametrize(
    "name", ["", "Ü", "-", "no_unknown+no_roi_loss", "1", "A" * 300, "a" * 23 + "_" * 40]
)
def test_every_step_gets_a_valid_name(name: str) -> None:
    made = f"{job_name(small_job(name=name, workers=10_000))}-worker-9999"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", made)
    assert "--" not in made
    assert len(made) <= 63


@pytest.mark.parametrize("name", ["1abc", "Abc", "a_b", "a" * 55])
def test_a_name_that_the_operator_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(LaunchError, match="MPIJob name"):
        check_name(name, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "Upsnet:0.1.0"}, "image: found 'Upsnet:0.1.0'"),
        ({"image": ""}, "image: found ''"),
        ({"image": "upsnet:a tag"}, "image"),
        ({"workers": 0}, "workers: found 0, expected a whole number of at least 1"),
        ({"workers": 1.5}, "workers: found 1.5"),
        ({"slots_per_worker": 0}, "slots_per_worker"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"start_timeout_s": -1}, "start_timeout_s"),
        ({"backoff_limit": 0}, "backoff_limit: found 0, expected at least 1"),
        ({"gpus_per_worker": -1}, "gpus_per_worker"),
        ({"command": ()}, "command: found nothing"),
        ({"secret_names": ("Bad_Name",)}, "secret_names: 'Bad_Name'"),
        ({"environment": {"a b": "1"}}, "'a b' is no name of a variable"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "AWS_SECRET_ACCESS_KEY holds a credential"),
        ({"environment": {"URI": "http://me:word@mlflow"}}, "URI holds a credential"),
        ({"gpus_per_worker": 2}, "2 nvidia.com/gpu for 1 slots"),
        ({"gpus_per_worker": 1, "task_config": {"resources": {"limits": {"amd.com/gpu": "2"}}}}, "GPUs"),
        ({"task_config": {"resources": {"limits": {"cpu": "many"}}}}, "cpu='many' is no quantity"),
        (
            {"task_config": {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}},
            "above the limit",
        ),
        ({"task_config": {"resources": {"limits": {"memory": "-1Gi"}}}}, "negative"),
        ({"task_config": {"tolerations": "all"}}, "task_config.tolerations"),
        ({"task_config": {"colour": "red"}}, "task_config.colour"),
        (
            {"task_config": {"volume_mounts": [{"name": "data", "mountPath": "/d"}]}},
            "not among the volumes: data",
        ),
        ({"task_config": {"volumes": [{"name": "a"}, {"name": "a"}]}}, "comes twice"),
    ],
)
def test_what_the_cluster_would_refuse_or_never_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LaunchError, match=re.escape(message)):
        build(small_job(**changes))


@pytest.mark.parametrize(
    "image", ["upsnet:0.1.0", "registry:5000/team/upsnet", "ghcr.io/a/b-c_d:v1", f"a@sha256:{'0' * 64}"]
)
def test_image_names_of_every_kind_are_taken(image: str) -> None:
    assert container(build(small_job(image=image)), "Worker")["image"] == image


def test_workers_that_arrive_as_a_float_are_whole_again() -> None:
    manifest = build(small_job(workers=2.0, slots_per_worker=1.0))
    assert manifest["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"] == 2
    assert "2.0" not in json.dumps(manifest)
