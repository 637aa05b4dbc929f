import multiprocessing
from pathlib import Path

import pytest

from upsnet.data.staging import staged_folder
from upsnet.errors import DataError


def _ours(name: str) -> bool:
    return name.endswith(".ours")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_at_the_end_and_nothing_else_stays(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged_folder(out, _ours) as folder:
        (folder / "a.ours").touch()
        assert not out.exists()
    assert _names(out) == ["a.ours"]
    assert _names(tmp_path / "deep") == ["out"]


def test_a_failure_keeps_the_former_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.ours").touch()

    def fail_half_way(folder: Path) -> None:
        (folder / "new.ours").touch()
        raise KeyError

    with pytest.raises(KeyError), staged_folder(tmp_path / "out", _ours) as folder:
        fail_half_way(folder)
    assert _names(tmp_path) == ["out"]
    assert _names(tmp_path / "out") == ["old.ours"]


def test_success_replaces_the_former_folder_as_a_whole(tmp_path: Path) -> None:
    for name in ("old.ours", "new.ours"):
        with staged_folder(tmp_path / "out", _ours) as folder:
            (folder / name).touch()
    assert _names(tmp_path / "out") == ["new.ours"]
    assert _names(tmp_path) == ["out"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "out.part/deep").mkdir(parents=True)
    (tmp_path / "out.part/half.ours").touch()
    with staged_folder(tmp_path / "out", _ours) as folder:
        (folder / "new.ours").touch()
    assert _names(tmp_path / "out") == ["new.ours"]


def test_a_run_killed_between_its_two_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.old.part").mkdir()
    (tmp_path / "out.old.part/old.ours").touch()
    with pytest.raises(KeyError), staged_folder(tmp_path / "out", _ours):
        raise KeyError
    assert _names(tmp_path / "out") == ["old.ours"]


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DataError, match=r"holds other files \(photo\.jpg\)"), staged_folder(tmp_path, _ours):
        pass
    assert _names(tmp_path) == ["photo.jpg"]


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="is a file"), staged_folder(tmp_path / "out", _ours):
        pass


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with staged_folder(tmp_path / "out", _ours) as folder:
        (folder / "new.ours").touch()
    assert (tmp_path / "out").is_symlink()
    assert _names(tmp_path / "disk") == ["new.ours"]


def _try_to_write(out: Path) -> str:
    try:
        with staged_folder(out, _ours):
            return "written"
    except DataError as error:
        return str(error)


def test_two_processes_do_not_write_the_same_folder(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", _ours) as folder:
        (folder / "a.ours").touch()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert "another process is writing" in pool.apply(_try_to_write, [tmp_path / "out"])
    assert _names(tmp_path / "out") == ["a.ours"]


def test_a_full_disk_is_one_clear_message(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "a.ours").symlink_to("/dev/full")
        (folder / "a.ours").write_bytes(b"x")

    with pytest.raises(DataError, match="the disk is full"), staged_folder(tmp_path / "out", _ours) as folder:
        fill(folder)
    assert _names(tmp_path) == []
