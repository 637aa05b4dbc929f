"""A real S3 server over a folder of the test, and the environment in which programs use it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 60
KEY, SECRET, BUCKET = "tests-key", "tests-secret", "upsnet-tests"
AWS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS")
"""Variables of the machine that would change what tests see."""


@dataclass(frozen=True)
class Server:
    """An S3 server.

    Attributes:
        folder: on this machine; a bucket is a folder in it.
        port: where it listens.
    """

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bucket(self) -> Path:
        """The folder of the bucket of the tests."""
        return self.folder / BUCKET

    def variables(self, port: int = 0) -> dict[str, str]:
        """What a program needs to use it, perhaps through a proxy at another port."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def rclone_server(folder: Path, port: int = 0, *options: str) -> Iterator[Server]:
    """Serves a folder by `rclone serve s3`; has the bucket of the tests.

    With the option `--dir-cache-time=0` it sees what is written into the folder past it.
    """
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    server = Server(folder, port or free_port())
    always = ["--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{server.port}"]
    with running(["rclone", "serve", "s3", *always, *options, str(folder)], server.port):
        yield server


@contextmanager
def moto_server() -> Iterator[Server]:
    """moto's S3, for what rclone lacks; its buckets are made by the test."""
    pytest.importorskip("moto", reason="moto is not installed")
    server = Server(Path(), free_port())
    with running(["moto_server", "-H", "127.0.0.1", "-p", str(server.port)], server.port):
        yield server


@contextmanager
def running(command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server process that listens on a port."""
    given = {**os.environ, **(environment or {})}
    process = subprocess.Popen(
        command, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(PATIENCE_S * 20):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError(f"{command[0]} does not listen")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # an MLflow server has children
        process.wait(PATIENCE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def use(variables: Mapping[str, str], cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes this process use a server, with a cache of the test's own."""
    for name in AWS:
        patch.delenv(name, raising=False)
    for name, value in {**variables, "UPSNET_CACHE": str(cache)}.items():
        patch.setenv(name, value)
