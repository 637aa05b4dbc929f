"""Tests of the cache: what stays, what goes, and that one machine fetches an object once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import Server, use
from upsnet.errors import StorageError
from upsnet.storage.cache import Cache, cache, cache_root, entry_of
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import RemoteFile
from upsnet.storage.transfer import existing, upload_file, upload_folder

SIZE = 1000


@pytest.fixture
def objects(remote: S3Path, tmp_path: Path) -> list[RemoteFile]:
    """Four objects of 1000 bytes."""
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode() * SIZE)
        upload_file(tmp_path / name, remote / name)
    return [existing(remote / name) for name in "abcd"]


def held(store: Cache, objects: list[RemoteFile]) -> str:
    """Names of the objects that are here."""
    return "".join(o.path.name for o in objects if store.find(entry_of(o), o.path.name) is not None)


def used(store: Cache, *objects: RemoteFile) -> None:
    """Makes them used in this order, whatever the clock of the disk can tell apart."""
    for second, found in enumerate(objects):
        os.utime(store.root / "entries" / entry_of(found), (second, second))


def test_what_was_used_least_recently_goes_first(tmp_path: Path, objects: list[RemoteFile]) -> None:
    store = Cache(tmp_path / "small", 3 * SIZE)
    a, b, c, d = objects
    for found in (a, b, c):
        store.file(found)
    used(store, b, a, c)
    assert store.file(d).read_bytes() == b"d" * SIZE
    assert held(store, objects) == "acd"


def test_what_is_held_stays_whatever_the_limit_is(tmp_path: Path, objects: list[RemoteFile]) -> None:
    store = Cache(tmp_path / "small", SIZE)
    a, b, c, _ = objects
    store.file(a, hold=True)
    store.file(b)
    used(store, a, b)
    store.file(c)
    assert held(store, objects) == "ac"


def test_a_changed_object_is_fetched_anew_and_the_old_copy_stays_for_its_readers(
    tmp_path: Path, remote: S3Path
) -> None:
    store, paths = Cache(tmp_path / "store", 10 * SIZE), []
    for data in (b"1", b"2"):
        (tmp_path / "file").write_bytes(data)
        upload_file(tmp_path / "file", remote / "file")
        paths.append(store.file(existing(remote / "file")))
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]


def test_a_folder_is_as_it_is_in_s3_now(tmp_path: Path, remote: S3Path) -> None:
    from upsnet.storage.s3 import delete

    made = tmp_path / "made"
    made.mkdir()
    for name in ("kept", "gone", "other"):
        (made / name).write_text(name)
    upload_folder(made, remote)
    store = Cache(tmp_path / "store", 10 * SIZE)
    store.folder(remote, lambda name: name != "other")
    delete(remote / "gone")
    folder = store.folder(remote, lambda name: name != "other")
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert folder.name == remote.name


def test_a_folder_without_anything_is_refused(tmp_path: Path, remote: S3Path) -> None:
    with pytest.raises(StorageError, match="there is nothing of what is expected there"):
        Cache(tmp_path / "store", 0).folder(remote)


def test_the_processes_of_a_machine_fetch_an_object_once(
    tmp_path: Path, remote: S3Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 * 2**20
    (tmp_path / "file").write_bytes(os.urandom(size))
    upload_file(tmp_path / "file", remote / "file")
    program = "import sys; from upsnet.storage.local import local_file; print(local_file(sys.argv[1]))"
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        command = [sys.executable, "-c", program, str(remote / "file")]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        places = {process.communicate(timeout=60)[0] for process in running}
        assert size <= proxy.bytes < 2 * size
    assert len(places) == 1
    assert Path(places.pop().strip()).read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UPSNET_CACHE_GB", text)
    with pytest.raises(StorageError, match="expected gigabytes, such as 50"):
        cache()


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSNET_CACHE", "/x")
    assert cache_root() == Path("/x")
    monkeypatch.setenv("UPSNET_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert cache_root() == Path("/y/upsnet")


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, objects: list[RemoteFile]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be used as cache .*; set UPSNET_CACHE to"):
        Cache(tmp_path / "file", SIZE).file(objects[0])
