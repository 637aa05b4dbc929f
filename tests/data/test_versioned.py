"""Tests of prepared data under DVC, with a folder as its remote and a git repository of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upsnet.config import load_config, to_yaml
from upsnet.data.dvc_lock import OUTPUT, STAGE
from upsnet.data.shards import PreparedData
from upsnet.data.versioned import PROGRAM, VersionedData, prepare_versioned
from upsnet.errors import DataError

TINY = [
    *("data.synthetic.train_images=2", "data.synthetic.val_images=1"),
    *("data.synthetic.height=64", "data.synthetic.width=64"),
]


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage finds this interpreter and the project's own code by itself."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("PYTHONPATH", raising=False)


def write_config(folder: Path, *overrides: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(to_yaml(load_config("mini", [], [*TINY, *overrides])))
    return path


def test_without_a_remote_the_data_are_just_prepared(tmp_path: Path) -> None:
    result = prepare_versioned(write_config(tmp_path), tmp_path / "out")
    version = PreparedData(tmp_path / "out").version
    assert result == VersionedData(tmp_path / "out", version, "", made=True)


def test_what_one_machine_pushed_another_takes_from_the_remote(tmp_path: Path) -> None:
    config, remote = write_config(tmp_path), str(tmp_path / "remote")
    first = prepare_versioned(config, tmp_path / "first", remote=remote)
    second = prepare_versioned(config, tmp_path / "second", remote=remote)
    assert (first.made, second.made) == (True, False)
    assert second.version == first.version == PreparedData(tmp_path / "second").version
    assert second.dvc_hash == first.dvc_hash
    assert first.dvc_hash.endswith(".dir")
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", "remote", "first", "second"}


@pytest.mark.slow
def test_a_shared_cache_serves_as_well_as_a_remote(tmp_path: Path) -> None:
    config, cache = write_config(tmp_path), tmp_path / "cache"
    made = [prepare_versioned(config, tmp_path / name, cache=cache).made for name in ("first", "second")]
    assert made == [True, False]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A git repository of the project; its DVC remote is a folder, and the tag `pinned` has pinned data."""
    folder = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("upsnet", "configs"):
        shutil.copytree(PROGRAM / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "params.yaml", ".gitignore"):
        shutil.copy(PROGRAM / name, folder)
    (folder / "runs").mkdir()
    git(folder, "init", "--quiet")
    dvc(folder, "init", "--quiet")
    dvc(folder, "remote", "add", "-d", "store", str(tmp_path / "store"))
    commit(folder, "Start")
    shutil.copy(write_config(tmp_path), folder / "runs" / "config.yaml")
    dvc(folder, "repro", "--quiet", "--single-item", "prepare")
    dvc(folder, "push", "--quiet", "prepare")
    commit(folder, "Pin the data")
    git(folder, "tag", "pinned")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", message)


def dvc(folder: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {**os.environ, "PATH": path}
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, check=True)


@pytest.mark.slow
def test_the_data_of_a_revision_come_from_its_remote_or_are_made_and_pushed(
    source: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    pinned = prepare_versioned(config, tmp_path / "pinned", source=str(source), revision="pinned")
    assert pinned.made is False
    assert pinned.version == PreparedData(source / "runs" / "prepared").version
    shutil.rmtree(tmp_path / "store")
    made = [
        prepare_versioned(config, tmp_path / name, source=str(source), revision="pinned").made
        for name in ("lost", "found")
    ]
    assert made == [True, False]
    other = write_config(tmp_path, "data.synthetic.seed=2")
    assert prepare_versioned(other, tmp_path / "other", source=str(source), revision="pinned").made


@pytest.mark.parametrize(
    ("source", "revision", "parts"),
    [
        ("", "main", ["'main'", "Give the data source"]),
        ("{tmp}/nowhere", "main", ["data source", "nowhere"]),
        ("{tmp}/empty", "main", ["data source", "revision main"]),
    ],
)
def test_a_source_that_cannot_be_used_is_said(
    tmp_path: Path, source: str, revision: str, parts: list[str]
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True)
    with pytest.raises(DataError) as error:
        prepare_versioned(
            write_config(tmp_path), tmp_path / "out", source=source.format(tmp=tmp_path), revision=revision
        )
    for part in parts:
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_faulty_data_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    config = write_config(tmp_path, "data.source=cityscapes", f"data.cityscapes.root={tmp_path}/gone")
    with pytest.raises(DataError, match="gone"):
        prepare_versioned(config, tmp_path / "out", remote=str(tmp_path / "remote"))
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml"}


def test_the_stage_is_that_of_dvc_yaml() -> None:
    import yaml

    stage = yaml.safe_load((PROGRAM / "dvc.yaml").read_text())["stages"][STAGE]
    assert stage["outs"] == [OUTPUT]
    assert stage["cmd"] == f"python -m upsnet prepare --config runs/config.yaml --out {OUTPUT}"
