"""Tests of up- and download against a real server."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import BUCKET, Server, moto_server, rclone_server, use
from upsnet.errors import StorageError
from upsnet.storage.checksum import has_checksum
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import client, head, read_range
from upsnet.storage.transfer import download_file, download_folder, existing, upload_file, upload_folder

LARGE = 40 * 2**20 + 7
"""Bytes of a file that comes in pieces, the last of them short."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files, one of them empty, one in a folder, one with an odd name."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    for name, data in (("a.bin", os.urandom(100_000)), ("empty", b""), ("deep/ü b+c%.txt", b"text")):
        (made / name).write_bytes(data)
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(os.urandom(2**20) * 40 + b"the end")
    assert path.stat().st_size == LARGE
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_comes_back_with_the_same_bytes(folder: Path, remote: S3Path, tmp_path: Path) -> None:
    upload_folder(folder, remote)
    names = download_folder(remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    assert names == sorted(contents(folder))


def test_an_object_carries_the_sha256_of_its_file(folder: Path, remote: S3Path) -> None:
    upload_file(folder / "a.bin", remote / "a.bin")
    found = head(remote / "a.bin")
    assert found is not None
    assert found.sha256 == hashlib.sha256((folder / "a.bin").read_bytes()).hexdigest()


def test_what_is_there_with_the_same_bytes_is_not_moved_again(
    folder: Path, remote: S3Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(folder, remote)
    download_folder(remote, tmp_path / "back")
    before = existing(remote / "a.bin").modified
    (folder / "deep" / "new").write_bytes(b"new")
    (tmp_path / "back" / "empty").write_bytes(b"changed")
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        upload_folder(folder, remote)
        download_folder(remote, tmp_path / "back")
        assert proxy.bytes < 100_000
    use(server.variables(), tmp_path / "cache", monkeypatch)
    assert existing(remote / "a.bin").modified == before
    assert contents(tmp_path / "back") == contents(folder)


def test_a_changed_file_of_the_same_size_is_moved_again(folder: Path, remote: S3Path, tmp_path: Path) -> None:
    for data in (b"1" * 1000, b"2" * 1000):
        (folder / "a.bin").write_bytes(data)
        upload_folder(folder, remote)
        download_folder(remote, tmp_path / "back")
        assert (tmp_path / "back" / "a.bin").read_bytes() == data


def test_a_large_file_goes_there_and_back_in_parts(large: Path, remote: S3Path, tmp_path: Path) -> None:
    upload_file(large, remote / "large.bin")
    download_file(existing(remote / "large.bin"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == []


def test_an_interrupted_download_goes_on_where_it_stopped(
    large: Path, remote: S3Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_file(large, remote / "large.bin")
    found, back = existing(remote / "large.bin"), tmp_path / "back"
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "0")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        proxy.cut_every, proxy.cut_after = 3, 100_000
        with pytest.raises(StorageError, match=r"nothing is lost, run the command again"):
            download_file(found, back)
        assert not back.exists()
        assert back.with_name("back.part").exists()
        proxy.cut_every, proxy.bytes = 0, 0
        monkeypatch.delenv("UPSNET_S3_PATIENCE_S")
        download_file(found, back)
        assert proxy.bytes < LARGE - 16 * 2**20
    assert back.read_bytes() == large.read_bytes()


def test_a_killed_download_goes_on_and_never_shows_half_a_file(
    large: Path, remote: S3Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_file(large, remote / "large.bin")
    program = (
        "import sys; from pathlib import Path; from upsnet.storage.transfer import *\n"
        "from upsnet.storage.paths import parse_s3\n"
        "download_file(existing(parse_s3(sys.argv[1])), Path(sys.argv[2]))"
    )
    back, state = tmp_path / "back", tmp_path / "back.part.json"
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        proxy.stall_every, proxy.stall_s = 4, 60
        command = [sys.executable, "-c", program, str(remote / "large.bin"), str(back)]
        with subprocess.Popen(command) as process:
            for _ in range(600):
                if state.exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            process.kill()
        assert state.exists()
        assert not back.exists()
        proxy.stall_every, proxy.bytes = 0, 0
        download_file(existing(remote / "large.bin"), back)
        assert proxy.bytes < LARGE
    assert back.read_bytes() == large.read_bytes()


@pytest.mark.parametrize("size", [1000, 40 * 2**20])
def test_an_object_that_changes_during_the_download_is_refused(
    remote: S3Path, tmp_path: Path, size: int
) -> None:
    found = []
    for data in (b"1" * size, b"2" * size):
        (tmp_path / "file").write_bytes(data)
        upload_file(tmp_path / "file", remote / "file")
        found.append(existing(remote / "file"))
    with pytest.raises(
        StorageError, match=r"file: was changed while it was being read; run the command again"
    ):
        download_file(found[0], tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_server_that_knows_if_match_refuses_a_changed_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as server:
        use(server.variables(), tmp_path / "cache", monkeypatch)
        client().create_bucket(Bucket=BUCKET)
        path = S3Path(BUCKET, "file")
        (tmp_path / "file").write_bytes(b"1" * 1000)
        upload_file(tmp_path / "file", path)
        found = existing(path)
        (tmp_path / "file").write_bytes(b"2" * 1000)
        upload_file(tmp_path / "file", path)
        with pytest.raises(StorageError, match="was changed while it was being read"):
            download_file(found, tmp_path / "back")
        with pytest.raises(StorageError, match="was changed while it was being read"):
            read_range(found, 0, 10)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that sees what is written into its folder past it."""
    with rclone_server(tmp_path / "s3", 0, "--dir-cache-time=0") as server:
        use(server.variables(), tmp_path / "cache", monkeypatch)
        yield server


def test_an_object_that_is_not_what_was_uploaded_is_refused(remote: S3Path, tmp_path: Path) -> None:
    path = remote / "file"
    client().put_object(Bucket=path.bucket, Key=path.key, Body=b"1", Metadata={"sha256": "0" * 64})
    with pytest.raises(StorageError, match="file: is damaged, its checksum differs; upload it again"):
        download_file(existing(path), tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("back")] == []


def test_objects_of_other_programs_are_checked_by_their_etag(fresh: Server, tmp_path: Path) -> None:
    (fresh.bucket / "file").write_bytes(b"of another program")
    found = existing(S3Path(BUCKET, "file"))
    assert found.sha256 == ""
    assert has_checksum(found)
    download_file(found, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"of another program"


@pytest.mark.parametrize("size", [1000_000, 40 * 2**20])
def test_a_full_disk_says_so_and_leaves_no_file(
    remote: S3Path, tmp_path: Path, size: int, server: Server
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    upload_file(tmp_path / "file", remote / "file")
    program = (
        "import resource, sys; from pathlib import Path; from upsnet.storage.transfer import *\n"
        "from upsnet.storage.paths import parse_s3\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "download_file(existing(parse_s3(sys.argv[1])), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(remote / "file"), str(tmp_path / "back")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "StorageError" in done.stderr
    assert "the disk is full" in done.stderr
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("fault", ["cut", "stall", "error"])
def test_after_faults_the_bytes_are_the_same(
    large: Path,
    folder: Path,
    remote: S3Path,
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    os.link(large, folder / "large.bin")
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        if fault == "cut":
            proxy.cut_every = 3
        if fault == "stall":
            proxy.stall_every, proxy.stall_s = 3, 0.3
        with after_a_while(proxy) if fault == "error" else nullcontext():
            upload_folder(folder, remote)
            download_folder(remote, tmp_path / "back")
        assert proxy.cuts + proxy.stalls + proxy.answered > 0
    assert contents(tmp_path / "back") == contents(folder)


@contextmanager
def after_a_while(proxy: FaultProxy) -> Iterator[None]:
    """The proxy answers nothing but 503 at first."""
    proxy.answer(503, "SlowDown")
    timer = threading.Timer(2, lambda: proxy.answer(0, ""))
    timer.start()
    yield
    timer.join()


def test_names_that_would_leave_the_folder_are_refused(remote: S3Path, tmp_path: Path) -> None:
    with moto_server() as server, pytest.MonkeyPatch.context() as patch:
        use(server.variables(), tmp_path / "cache", patch)
        client().create_bucket(Bucket=BUCKET)
        client().put_object(Bucket=BUCKET, Key="x/../../evil", Body=b"")
        with pytest.raises(StorageError, match="no safe file name"):
            download_folder(S3Path(BUCKET, "x"), tmp_path / "deep" / "back")
    assert not (tmp_path / "evil").exists()
