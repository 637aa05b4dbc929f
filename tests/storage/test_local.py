"""Tests of what commands use: inputs and outputs that are in S3 or here."""

from pathlib import Path

import pytest

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import Server, use
from upsnet.errors import DataError, StorageError
from upsnet.storage.local import local_either, output_file, output_folder, working_copy
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import list_files
from upsnet.storage.transfer import upload_folder


def is_shard(name: str) -> bool:
    return name.endswith(".tar") or name == "manifest"


def contents(place: S3Path) -> dict[str, str]:
    """Of a folder in S3, by relative name."""
    names = [found.path.key.removeprefix(place.prefix) for found in list_files(place)]
    return {name: local_either(str(place / name)).read_text() for name in names}


def write(place: S3Path, **files: str) -> None:
    """Writes shards and a manifest as one output."""
    with output_folder(str(place), last=("manifest",), owned=is_shard) as folder:
        folder.mkdir()
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)


def write_while_s3_fails(place: S3Path, proxy: FaultProxy) -> None:
    with output_folder(str(place)) as folder:
        folder.mkdir()
        (folder / "figures").write_text("hours of work")
        proxy.answer(503, "SlowDown")


def change_and_fail(place: S3Path) -> None:
    with working_copy(str(place), lambda name: name != "weights") as folder:
        assert not (folder / "weights").exists()
        (folder / "log").write_text("longer")
        (folder / ".lock").write_text("")
        (folder / "item").unlink()
        raise DataError(f"{folder}: not all was sent")


def test_an_output_takes_the_place_of_the_one_before(remote: S3Path, tmp_path: Path) -> None:
    write(remote, a_tar="a", b_tar="b", manifest="two")
    write(remote, a_tar="A", manifest="one")
    assert contents(remote) == {"a.tar": "A", "manifest": "one"}
    assert list((tmp_path / "cache" / "outputs").iterdir()) == []


def test_work_that_fails_before_it_wrote_anything_leaves_the_output_before(remote: S3Path) -> None:
    write(remote, a_tar="a", manifest="one")
    with pytest.raises(DataError), output_folder(str(remote), last=("manifest",), owned=is_shard):
        raise DataError("a bad image")
    assert contents(remote) == {"a.tar": "a", "manifest": "one"}


def test_a_folder_with_other_files_is_no_place_for_an_output(remote: S3Path, tmp_path: Path) -> None:
    with output_file(str(remote / "thesis.txt")) as file:
        file.write_text("mine")
    with pytest.raises(StorageError, match=r"holds other files \(thesis.txt\); choose an empty or a new"):
        write(remote, a_tar="a", manifest="one")
    assert contents(remote) == {"thesis.txt": "mine"}


def test_an_output_that_cannot_go_up_stays_here_and_the_message_says_where(
    remote: S3Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "0")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(StorageError, match="The results stay in") as caught:
            write_while_s3_fails(remote, proxy)
    kept = Path(str(caught.value).rpartition("The results stay in ")[2])
    assert (kept / "figures").read_text() == "hours of work"


def test_a_changed_copy_goes_back_and_what_was_not_asked_for_stays(remote: S3Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for name in ("log", "item", "weights"):
        (made / name).write_text(name)
    upload_folder(made, remote)
    with pytest.raises(DataError) as caught:
        change_and_fail(remote)
    assert str(caught.value) == f"{remote}: not all was sent"
    assert contents(remote) == {"log": "longer", "weights": "weights"}


def test_a_copy_of_nothing_is_refused(remote: S3Path) -> None:
    with (
        pytest.raises(StorageError, match="there is nothing of what is expected there"),
        working_copy(str(remote), lambda _: True),
    ):
        pass


def test_folders_and_files_of_this_machine_are_used_in_place(tmp_path: Path) -> None:
    with output_folder(tmp_path) as folder, output_file(tmp_path / "x") as file:
        assert (folder, file) == (tmp_path, tmp_path / "x")
    with working_copy(tmp_path, lambda _: False) as folder:
        assert folder == tmp_path
