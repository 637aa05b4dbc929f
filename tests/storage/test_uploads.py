"""Tests of the uploads that go on beside a training."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import Server, use
from upsnet.errors import StorageError
from upsnet.storage import uploads as module
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import list_files
from upsnet.storage.transfer import download_folder
from upsnet.storage.uploads import FolderUploads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training's folder with one checkpoint."""
    made = tmp_path / "run"
    (made / "checkpoints").mkdir(parents=True)
    (made / "checkpoints" / "1.pt").write_bytes(b"one" * 1000)
    (made / "log.jsonl").write_text("1\n")
    return made


def names(remote: S3Path) -> list[str]:
    return [found.path.key.removeprefix(remote.prefix) for found in list_files(remote)]


def until(what: Callable[[], bool]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it does not come to this")


def test_files_go_up_while_the_work_goes_on(folder: Path, remote: S3Path, tmp_path: Path) -> None:
    uploads = FolderUploads(folder, remote, tmp_path / "aside")
    uploads.update()
    until(lambda: names(remote) == ["checkpoints/1.pt", "log.jsonl"])
    with (folder / "log.jsonl").open("a") as log:
        log.write("2\n")
    uploads.close()
    download_folder(remote, tmp_path / "back")
    assert (tmp_path / "back" / "log.jsonl").read_text() == "1\n2\n"
    assert not (tmp_path / "aside").exists()


def test_what_is_gone_here_goes_there_once_the_new_is_there(
    folder: Path, remote: S3Path, tmp_path: Path
) -> None:
    uploads = FolderUploads(folder, remote, tmp_path / "aside", known=["checkpoints/0.pt"])
    uploads.update()
    until(lambda: len(names(remote)) == 2)
    (folder / "checkpoints" / "1.pt").rename(folder / "checkpoints" / "2.pt")
    uploads.close()
    assert names(remote) == ["checkpoints/2.pt", "log.jsonl"]


def test_hidden_and_unfinished_files_stay_here(folder: Path, remote: S3Path, tmp_path: Path) -> None:
    for name in (".hidden", "checkpoints/2.pt.part"):
        (folder / name).write_text("x")
    FolderUploads(folder, remote, tmp_path / "aside").close()
    assert names(remote) == ["checkpoints/1.pt", "log.jsonl"]


def test_an_outage_is_one_warning_and_the_last_state_is_there_in_the_end(
    folder: Path,
    remote: S3Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.2)
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "0")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        proxy.answer(503, "SlowDown")
        uploads = FolderUploads(folder, remote, tmp_path / "aside")
        for number in (2, 3):
            answered = proxy.answered
            (folder / "checkpoints" / f"{number - 1}.pt").unlink()
            (folder / "checkpoints" / f"{number}.pt").write_bytes(b"x" * number)
            uploads.update()
            until(lambda answered=answered: proxy.answered > answered + 1)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "30")
        proxy.answer(0, "")
        uploads.close()
    use(server.variables(), tmp_path / "cache", monkeypatch)
    assert names(remote) == ["checkpoints/3.pt", "log.jsonl"]
    assert len([record for record in caplog.records if "is late, the work goes on" in record.message]) == 1


def test_what_cannot_go_up_stays_here_and_the_message_says_where(
    folder: Path, remote: S3Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "0")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        proxy.answer(403, "AccessDenied")
        uploads = FolderUploads(folder, remote, tmp_path / "aside")
        with pytest.raises(
            StorageError, match=r"none is lost: they are in .*run\. Run the same command again"
        ):
            uploads.close()
    assert (folder / "checkpoints" / "1.pt").read_bytes() == b"one" * 1000
