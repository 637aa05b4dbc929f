"""What dvc.lock says of prepared data: the hash that DVC has for them. DVC itself is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from upsnet.config import DataConfig
from upsnet.errors import DataError

LOCK, STAGE, OUTPUT = "dvc.lock", "prepare", "runs/prepared"


@dataclass(frozen=True)
class LockedData:
    """Prepared data as a dvc.lock has them.

    Attributes:
        dvc_hash: DVC's hash of the folder.
        size: bytes of all its files together.
        count: number of its files.
        config: the section `data` of the configuration that they were prepared by.
    """

    dvc_hash: str
    size: int
    count: int
    config: dict[str, Any]


def locked_data(project: Path) -> LockedData | None:
    """The prepared data of a project's dvc.lock; None if it has none.

    Raises:
        DataError: dvc.lock cannot be read.
    """
    stage = locked_stages(project).get(STAGE, {})
    try:
        entry = next((out for out in stage.get("outs", []) if out["path"] == OUTPUT), None)
        if entry is None:
            return None
        config = stage.get("params", {}).get("runs/config.yaml", {}).get("data", {})
        return LockedData(str(entry["md5"]), int(entry["size"]), int(entry["nfiles"]), config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(project / LOCK, error) from error


def locked_stages(project: Path) -> dict[str, Any]:
    """The stages of a project's dvc.lock, by name; none if there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    path = project / LOCK
    try:
        stages = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {})
        return {str(name): stage for name, stage in stages.items()}
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise _damaged(path, error) from error


def hash_of_folder(folder: Path) -> str:
    """DVC's hash of a folder of prepared data.

    It is that of the dvc.lock beside it, if the folder still has as many files and bytes as there. What it
    holds is not compared, which would take minutes; DVC does that before it runs a stage.

    Returns:
        The hash; empty if the folder is no stage's output, or not what dvc.lock has.
    """
    path = folder.absolute()
    project = path.parent.parent
    if path != project / OUTPUT:
        return ""
    locked = locked_data(project)
    return locked.dvc_hash if locked is not None and _measure(path) == (locked.size, locked.count) else ""


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read as DVC writes it ({' '.join(str(error).split())}); "
        "take it from git again, or delete it and run 'make run'"
    )


def _measure(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def describe_data(project: Path, config: DataConfig) -> str:
    """One line: which prepared data a project has for a configuration, by our version and by DVC's hash.

    Raises:
        DataError: dvc.lock cannot be read.
    """
    folder, locked = project / OUTPUT, locked_data(project)
    if locked is not None and locked.config != config.model_dump(mode="json"):
        return f"data: not prepared yet; {LOCK} and {OUTPUT} are of another configuration"
    if not (folder / "manifest.json").is_file():
        if locked is None:
            return "data: not prepared yet"
        return (
            f"data: data_dvc_hash {locked.dvc_hash} ({LOCK}), not in {OUTPUT} yet; get it: 'make data-pull'"
        )
    here = f"data: data_version {_version(folder)} ({OUTPUT})"
    if locked is None:
        return f"{here}, not under DVC"
    if _measure(folder) != (locked.size, locked.count):
        other = f"not what {LOCK} has (data_dvc_hash {locked.dvc_hash})"
        return f"{here}, which is {other}; see 'dvc status prepare'"
    return f"{here}, data_dvc_hash {locked.dvc_hash} ({LOCK})"


def _version(folder: Path) -> str:
    from upsnet.data.shards import PreparedData

    return PreparedData(folder).version
