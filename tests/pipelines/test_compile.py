"""The compiled pipelines: their steps, parameters, and what Kubernetes gives to the steps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import compile as compiling
from pipelines.compile import PIPELINES, compile_pipeline
from pipelines.package import parameter_types, read_package, required_parameters, step_names
from tests.pipelines.running import run_command
from upsnet.errors import UpsnetError

STEPS = {
    "training": ["configure", "prepare", "train", "evaluate", "register"],
    "ablation": ["configure", "prepare", "train", "evaluate", "compare", "register"],
}
PARAMETERS = {
    *("preset", "variants", "overrides", "data_source", "data_revision", "data_remote", "workers"),
    *("gpus_per_worker", "worker_cpu", "worker_memory", "evaluation_workers", "launcher", "image"),
    *("experiment", "model_name", "volume", "timeout_hours"),
}


@pytest.fixture(scope="module", params=PIPELINES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / f"{request.param}.yaml"
    return read_package(compile_pipeline(request.param, path))


def name_of(compiled: dict[str, Any]) -> str:
    return compiled["pipeline_spec"]["pipelineInfo"]["name"]


def executors(compiled: dict[str, Any]) -> dict[str, Any]:
    return compiled["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_steps_are_those_of_the_design(compiled: dict[str, Any]) -> None:
    assert step_names(compiled) == STEPS[name_of(compiled)]


def test_every_parameter_has_a_default(compiled: dict[str, Any]) -> None:
    assert set(parameter_types(compiled)) == PARAMETERS
    assert required_parameters(compiled) == set()


def test_every_step_has_image_services_volume_and_bounds(compiled: dict[str, Any]) -> None:
    spec = compiled["pipeline_spec"]
    assert set(executors(compiled)) == set(spec["deploymentSpec"]["executors"])
    for name, settings in executors(compiled).items():
        image = spec["deploymentSpec"]["executors"][name]["container"]["image"]
        assert image == "{{$.inputs.parameters['pipelinechannel--image']}}"
        assert int(settings["activeDeadlineSeconds"]) > 0
        secrets = {secret["secretName"]: secret["optional"] for secret in settings["secretAsEnv"]}
        assert secrets == {"mlflow-credentials": True, "s3-credentials": True}
        assert [mount["mountPath"] for mount in settings["pvcMount"]] == ["/data"]
        assert settings["fieldPathAsEnv"] == [
            {"name": "UPSNET_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]


def test_the_training_s_settings_go_to_the_pods_of_the_mpijob(compiled: dict[str, Any]) -> None:
    fields = compiled["pipeline_spec"]["components"]["comp-train"]["taskConfigPassthroughs"]
    applied = {field["field"]: field.get("applyToTask", False) for field in fields}
    assert applied == {
        "RESOURCES": False,
        "KUBERNETES_TOLERATIONS": False,
        "KUBERNETES_NODE_SELECTOR": False,
        "KUBERNETES_AFFINITY": False,
        "KUBERNETES_VOLUMES": True,
    }
    settings = executors(compiled)["exec-train"]
    assert settings["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert settings["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_every_parameter_in_a_step_s_settings_is_an_input_of_the_step(compiled: dict[str, Any]) -> None:
    """A parameter that only a setting reads does not reach a step, and a loop around it, by itself."""
    spec = compiled["pipeline_spec"]
    dags = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    checked = []
    for dag in dags:
        known = set(dag.get("inputDefinitions", {}).get("parameters", {}))
        for task in dag["dag"]["tasks"].values():
            inputs = task.get("inputs", {}).get("parameters", {})
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            container = spec["deploymentSpec"]["executors"][label]["container"] if label else {}
            settings = json.dumps([container.get("resources"), container.get("image")])
            read = set(re.findall(r"inputs\.parameters\['([^']+)'\]", settings))
            assert read <= set(inputs)
            assert {inputs[name].get("componentInputParameter") for name in read} <= known
            checked += read
    assert {"pipelinechannel--worker_cpu", "pipelinechannel--gpus_per_worker"} <= set(checked)


def test_only_steps_whose_inputs_stand_still_are_cached(compiled: dict[str, Any]) -> None:
    spec = compiled["pipeline_spec"]
    tasks = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        tasks.update(component.get("dag", {}).get("tasks", {}))
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert "prepare" not in cached
    assert {"train", "evaluate"} <= cached
    inputs = tasks["train"]["inputs"]["parameters"]
    assert {"data_version", "config_version"} <= set(inputs)


def test_a_step_that_trains_in_its_own_pod_keeps_its_settings(tmp_path: Path) -> None:
    package = read_package(compile_pipeline("ablation", tmp_path / "a.yaml", launcher="local"))
    assert "taskConfigPassthroughs" not in package["pipeline_spec"]["components"]["comp-train"]
    parameters = package["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["launcher"]["defaultValue"] == "local"


def test_the_command_writes_both_with_the_image_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(compiling.app, "--out", tmp_path, "--image", "registry.example/upsnet:2").code == 0
    monkeypatch.setenv("UPSNET_IMAGE", "registry.example/upsnet:3")
    compile_pipeline("training", tmp_path / "other.yaml")
    found = []
    for name in ("training.yaml", "ablation.yaml", "other.yaml"):
        spec = next(yaml.safe_load_all((tmp_path / name).read_text()))
        found.append(spec["root"]["inputDefinitions"]["parameters"]["image"]["defaultValue"][-1])
    assert found == ["2", "2", "3"]


def test_an_unknown_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpsnetError, match="training or ablation"):
        compile_pipeline("serving", tmp_path / "a.yaml")
    assert list(tmp_path.iterdir()) == []
