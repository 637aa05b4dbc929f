"""A real MLflow server over SQLite, in a process of its own that can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

WAIT_SECONDS = 120


class MlflowServer:
    """Keeps its address and its runs from one start to the next.

    Args:
        folder: of the database and the artifacts.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as place:
            self._port = place.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """For MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database(self) -> str:
        """The same runs without the server."""
        return f"sqlite:///{self._folder}/runs.db"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", self.database, "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        with (self._folder / "server.txt").open("ab") as said:
            self._process = subprocess.Popen(
                command, stdout=said, stderr=said, start_new_session=True, env=environment
            )
        until = time.monotonic() + WAIT_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.txt").read_text()
            assert time.monotonic() < until, (self._folder / "server.txt").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kills it and its workers in the middle of whatever they do."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False
