"""A server per module, and a folder of its bucket per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.servers import BUCKET, Server, rclone_server, use
from upsnet.storage.paths import S3Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`rclone serve s3` on a free port."""
    with rclone_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def remote(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Path:
    """An empty folder in the bucket, whose server this process uses."""
    use(server.variables(), tmp_path / "cache", monkeypatch)
    return S3Path(BUCKET, tmp_path.name)
