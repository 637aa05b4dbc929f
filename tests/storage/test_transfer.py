"""Tests of up- and download against a real server."""

import hashlib
import os
from pathlib import Path

import pytest

from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import head
from upsnet.storage.transfer import download_folder, upload_file, upload_folder

LARGE = 70 * 2**20 + 7
"""Bytes of a file that comes in pieces, the last of them short."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files, one of them empty, one in a folder, one with an odd name."""
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    for name, data in (("a.bin", os.urandom(100_000)), ("empty", b""), ("deep/ü b+c%.txt", b"text")):
        (made / name).write_bytes(data)
    return made


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
