"""What `kubectl apply -k` would send: the rendered overlays, and questions about their pods."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
K8S = ROOT / "k8s"
OVERLAYS = ("local", "gpu")
Object = dict[str, Any]


def overlay(name: str) -> list[Object]:
    """The objects of an overlay; skips the test where there is no kubectl."""
    return list(render(K8S / "overlays" / name))


@functools.cache
def render(folder: Path) -> tuple[Object, ...]:
    """The objects of a kustomization."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine; the manifests were not rendered")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind by name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod that the objects make: `Kind/name`, and its template."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{found['kind']}/{found['metadata']['name']}", spec["template"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every container: `Kind/name/container`, and what it says."""
    for where, template in pod_templates(objects):
        for kind in ("initContainers", "containers"):
            for container in template["spec"].get(kind, []):
                yield f"{where}/{container['name']}", container


def secret_references(objects: list[Object]) -> set[tuple[str, str | None, bool]]:
    """Every reference of a container to a Secret: name, key (None: all), whether it may be missing."""
    found = set()
    for _, container in containers(objects):
        for entry in container.get("env", []):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                found.add((reference["name"], reference["key"], reference.get("optional", False)))
        for entry in container.get("envFrom", []):
            reference = entry.get("secretRef")
            if reference:
                found.add((reference["name"], None, reference.get("optional", False)))
    return found
