"""Where the steps put their files, with and without a volume."""

from pathlib import Path

import pytest

pytest.importorskip("kfp", reason="kfp is not installed")

from components import places
from upsnet.errors import UpsnetError


def make_data(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "train-00000.tar").write_text("large")
    return folder


def make_training(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("iteration-00000001.pt", "iteration-00000002.pt", "best.pt"):
        (folder / "checkpoints" / name).write_text(name)
    for name in ("log.jsonl", "mlflow_run.json"):
        (folder / name).write_text(name)
    return folder


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_without_a_volume_everything_is_in_the_artifacts(tmp_path: Path) -> None:
    artifact = str(tmp_path / "artifact")
    assert places.new_data_folder("", artifact) == places.training_folder("", artifact, "a") == Path(artifact)
    assert places.keep_data(Path(artifact), "", "abc", artifact) == places.data_folder(artifact, {})
    training = make_training(Path(artifact))
    assert places.keep_training(training, artifact).name == "iteration-00000002.pt"


def test_on_a_volume_data_lie_by_version_and_their_manifest_is_the_artifact(tmp_path: Path) -> None:
    for run in ("first", "second"):
        made = make_data(places.new_data_folder(str(tmp_path), ""))
        place = places.keep_data(made, str(tmp_path), "abc", str(tmp_path / run))
        assert place == tmp_path / "prepared" / "abc"
        assert places.data_folder(str(tmp_path / run), {places.FOLDER: str(place)}) == place
        assert names_in(tmp_path / run) == {"manifest.json"}
    assert names_in(tmp_path / "prepared") == {"abc/manifest.json", "abc/train-00000.tar"}


def test_on_a_volume_the_artifact_gets_the_newest_checkpoint_and_the_small_files(tmp_path: Path) -> None:
    kept = places.keep_training(make_training(tmp_path / "training"), str(tmp_path / "artifact"))
    assert kept.read_text() == "iteration-00000002.pt"
    assert names_in(tmp_path / "artifact") == {
        *("checkpoints/iteration-00000002.pt", "log.jsonl", "mlflow_run.json")
    }


def test_a_retry_finds_the_folder_of_its_run_and_another_run_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for run in ("one", "one", "two"):
        monkeypatch.setenv("UPSNET_RUN_ID", run)
        found.append(places.training_folder(str(tmp_path), "", "upsnet_c"))
    assert found[0] == found[1] != found[2]


def test_a_volume_that_is_not_mounted_and_a_training_without_checkpoint_are_said(tmp_path: Path) -> None:
    with pytest.raises(UpsnetError, match="mount the claim there"):
        places.check_volume(str(tmp_path / "gone"))
    with pytest.raises(UpsnetError, match="holds no checkpoint"):
        places.newest_checkpoint(tmp_path)
