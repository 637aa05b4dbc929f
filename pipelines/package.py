"""Compiled pipelines: what a package holds, which parameters it takes, and the steps it will run."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from upsnet.errors import UpsnetError


def read_package(path: Path) -> dict[str, Any]:
    """A compiled pipeline in the form that Kubeflow Pipelines takes.

    That is the pipeline's specification alone or, where steps have Kubernetes settings, both documents of the
    file under `pipeline_spec` and `platform_spec`.

    Raises:
        UpsnetError: the file is missing or no compiled pipeline.
    """
    try:
        documents = [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UpsnetError(f"{path}: cannot be read as a compiled pipeline: {error}") from error
    spec = documents[0] if documents else None
    if not isinstance(spec, dict) or "root" not in spec or len(documents) > 2:
        raise UpsnetError(f"{path}: no compiled pipeline; 'python -m pipelines.compile' writes one")
    return spec if len(documents) == 1 else {"pipeline_spec": spec, "platform_spec": documents[1]}


def pipeline_name(package: Mapping[str, Any]) -> str:
    """Name of the pipeline."""
    return str(_spec(package).get("pipelineInfo", {}).get("name", "pipeline"))


def parameter_types(package: Mapping[str, Any]) -> dict[str, str]:
    """The pipeline's parameters and their types: STRING, NUMBER_INTEGER, LIST and so on."""
    found = _spec(package)["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: str(definition.get("parameterType", "")) for name, definition in found.items()}


def required_parameters(package: Mapping[str, Any]) -> set[str]:
    """Parameters without a default."""
    found = _spec(package)["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name for name, d in found.items() if "defaultValue" not in d and not d.get("isOptional")}


def step_names(package: Mapping[str, Any]) -> list[str]:
    """Names of the steps that run in pods, each once, in an order in which they can run."""
    spec = _spec(package)
    return list(dict.fromkeys(_steps_of(spec, spec["root"])))


def _steps_of(spec: Mapping[str, Any], component: Mapping[str, Any]) -> list[str]:
    """The steps below a component; loops and conditions are components with steps of their own."""
    tasks = component.get("dag", {}).get("tasks", {})
    needs = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    names = []
    for task in (tasks[name] for name in TopologicalSorter(needs).static_order()):
        inner = spec.get("components", {}).get(task.get("componentRef", {}).get("name"), {})
        names += _steps_of(spec, inner) if "dag" in inner else [str(task["taskInfo"]["name"])]
    return names


def _spec(package: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = package.get("pipeline_spec", package)
    return found
