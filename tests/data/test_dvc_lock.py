"""Tests of what dvc.lock says of prepared data."""

from pathlib import Path

import pytest
import yaml

from upsnet.config import DataConfig, load_config
from upsnet.data.dvc_lock import LockedData, describe_data, hash_of_folder, locked_data, locked_stages
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import DataError

TINY = [
    *("data.synthetic.train_images=2", "data.synthetic.val_images=1"),
    *("data.synthetic.height=64", "data.synthetic.width=64"),
]
HASH = "0123456789abcdef.dir"


@pytest.fixture(scope="module")
def config() -> DataConfig:
    return load_config("mini", [], TINY).data


@pytest.fixture
def prepared(tmp_path: Path, config: DataConfig) -> PreparedData:
    return prepare(config, tmp_path / "runs" / "prepared", processes=1)


def write_lock(project: Path, config: DataConfig, size: int = 1, nfiles: int = 1) -> None:
    """As DVC writes it."""
    out = {"path": "runs/prepared", "hash": "md5", "md5": HASH, "size": size, "nfiles": nfiles}
    params = {"runs/config.yaml": {"data": config.model_dump(mode="json")}}
    stages = {"configure": {"cmd": "..."}, "prepare": {"cmd": "...", "params": params, "outs": [out]}}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def lock_as_it_is(project: Path, config: DataConfig) -> None:
    files = list((project / "runs" / "prepared").iterdir())
    write_lock(project, config, sum(file.stat().st_size for file in files), len(files))


def test_the_locked_data_have_the_hash_of_the_stage(tmp_path: Path, config: DataConfig) -> None:
    write_lock(tmp_path, config, 7, 2)
    assert locked_data(tmp_path) == LockedData(HASH, 7, 2, config.model_dump(mode="json"))
    assert list(locked_stages(tmp_path)) == ["configure", "prepare"]


@pytest.mark.parametrize("text", ["", "stages: {}", "stages: {train: {outs: []}}", "stages: {prepare: {}}"])
def test_a_lock_file_without_data_has_none(tmp_path: Path, text: str) -> None:
    assert locked_data(tmp_path) is None
    (tmp_path / "dvc.lock").write_text(text)
    assert locked_data(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "<<<<<<< HEAD\nstages:\n=======\n",
        "stages: 3",
        "[1]",
        "stages: {prepare: {outs: [{path: runs/prepared}]}}",
        "stages: {prepare: 3}",
    ],
)
def test_a_lock_file_that_is_damaged_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(
        DataError, match=r"dvc.lock: cannot be read as DVC writes it \(.*\); take it from git"
    ):
        locked_data(tmp_path)


def test_a_folder_has_the_hash_only_as_long_as_it_is_what_was_locked(
    tmp_path: Path, config: DataConfig, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepared.dvc_hash == ""
    lock_as_it_is(tmp_path, config)
    assert PreparedData(prepared.folder).dvc_hash == HASH
    monkeypatch.chdir(tmp_path)
    assert hash_of_folder(Path("runs/prepared")) == HASH
    assert hash_of_folder(Path("runs/other")) == ""
    (prepared.folder / "one more").write_text("")
    assert hash_of_folder(prepared.folder) == ""


def test_the_description_says_which_data_are_locked_and_which_are_here(
    tmp_path: Path, config: DataConfig, prepared: PreparedData
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = f"data: data_version {prepared.version} (runs/prepared)"
    assert describe_data(elsewhere, config) == "data: not prepared yet"
    assert describe_data(tmp_path, config) == f"{here}, not under DVC"
    write_lock(elsewhere, config)
    assert describe_data(elsewhere, config) == (
        f"data: data_dvc_hash {HASH} (dvc.lock), not in runs/prepared yet; get it: 'make data-pull'"
    )
    lock_as_it_is(tmp_path, config)
    assert describe_data(tmp_path, config) == f"{here}, data_dvc_hash {HASH} (dvc.lock)"
    write_lock(tmp_path, config)
    assert describe_data(tmp_path, config) == (
        f"{here}, which is not what dvc.lock has (data_dvc_hash {HASH}); see 'dvc status prepare'"
    )


def test_data_of_another_configuration_are_not_prepared_yet(tmp_path: Path, config: DataConfig) -> None:
    write_lock(tmp_path, config)
    assert describe_data(tmp_path, load_config("mini", [], []).data) == (
        "data: not prepared yet; dvc.lock and runs/prepared are of another configuration"
    )
