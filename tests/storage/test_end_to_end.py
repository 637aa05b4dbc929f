"""Everything from and to S3, through a network that fails: prepare, train, kill, go on, evaluate."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import AWS, BUCKET, PATIENCE_S, Server, rclone_server
from tests.test_cli import TINY

LARGE = [*TINY, "training.iterations=8", "training.checkpoint_interval=1"]
"""Checkpoints of 138 MB, which go up in parts."""
SMALL = [
    *(*TINY, "training.iterations=16", "training.checkpoint_interval=2"),
    *("model.backbone=mobilenet_v2", "model.frozen_stages=5", "model.box_head.channels=16"),
]
"""Checkpoints of 8 MB."""


class Machine:
    """A machine with nothing on it, whose cache is `folder`."""

    def __init__(self, folder: Path, server: Server, port: int = 0) -> None:
        own = {"UPSNET_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
        here = {name: value for name, value in os.environ.items() if name not in AWS}
        self.environment = {**here, **server.variables(port), **own}

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "upsnet.cli", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=10 * PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def train_until_killed(self, server: Server, *arguments: str) -> None:
        """Kills the training, without a warning, when its first checkpoints are in S3."""
        command = [sys.executable, "-m", "upsnet.cli", *arguments]
        with subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL) as process:
            for _ in range(10 * PATIENCE_S * 20):
                if process.poll() is not None or list(
                    (server.bucket / "train/checkpoints").glob("iteration-*.pt")
                ):
                    break
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with rclone_server(tmp_path / "s3") as started:
        yield started


def without_s3(tmp_path: Path, server: Server, overrides: list[str]) -> Path:
    """What comes out on one machine, without S3 and without a kill."""
    machine, folder = Machine(tmp_path / "unused", server), tmp_path / "expected"
    for command in commands(str(folder), overrides):
        machine.run(*command)
    return folder


def commands(place: str, overrides: list[str]) -> list[list[str]]:
    config = ["--config", f"{place}/config.yaml"]
    return [
        ["configure", *overrides, "--out", f"{place}/config.yaml"],
        ["prepare", *config, "--out", f"{place}/prepared"],
        ["train", *config, "--data", f"{place}/prepared", "--out", f"{place}/train"],
        evaluate(place),
    ]


def evaluate(place: str) -> list[str]:
    places = ["--checkpoint", f"{place}/train", "--data", f"{place}/prepared", "--out", f"{place}/evaluate"]
    return ["evaluate", *places]


def assert_same(expected: Path, found: Path) -> None:
    """The same prepared data and weights, bit for bit, and the same figures but for the times."""
    for path in (expected / "prepared").iterdir():
        assert (found / "prepared" / path.name).read_bytes() == path.read_bytes(), path.name
    newest = [max((folder / "train/checkpoints").glob("iteration-*.pt")) for folder in (expected, found)]
    assert newest[0].name == newest[1].name
    mine, theirs = (torch.load(path, weights_only=True) for path in newest)
    assert all(torch.equal(mine["model"][name], theirs["model"][name]) for name in mine["model"])
    metrics = [json.loads((folder / "evaluate/metrics.json").read_text()) for folder in (expected, found)]
    assert metrics[0]["per_class"] == metrics[1]["per_class"]


def kill_and_go_on(tmp_path: Path, server: Server, proxy: FaultProxy, overrides: list[str]) -> None:
    """All steps in S3 over the proxy; a second machine, with nothing on it, goes on for a killed one."""
    first = Machine(tmp_path / "first", server, proxy.port)
    second = Machine(tmp_path / "second", server, proxy.port)
    configure, prepare, train, evaluation = commands(f"s3://{BUCKET}", overrides)
    first.run(*configure)
    first.run(*prepare)
    faults = proxy.cut_every, proxy.stall_every
    proxy.cut_every = proxy.stall_every = (
        0  # else the training may be finished when its first checkpoint is up
    )
    first.train_until_killed(server, *train)
    proxy.cut_every, proxy.stall_every = faults
    said = second.run(*train)
    assert "going on from" in said
    assert list((tmp_path / "second" / "trainings").iterdir()) == []
    second.run(*evaluation)


def test_a_killed_training_goes_on_from_s3_on_another_machine_with_the_same_result(
    tmp_path: Path, server: Server
) -> None:
    with FaultProxy(server.port) as proxy:
        proxy.cut_every, proxy.stall_every, proxy.stall_s = 3, 4, 0.1
        kill_and_go_on(tmp_path, server, proxy, SMALL)
        assert min(proxy.cuts, proxy.stalls) > 0
    assert_same(without_s3(tmp_path, server, SMALL), server.bucket)


@pytest.mark.slow
def test_long_stalls_and_a_minute_of_outage_change_nothing(tmp_path: Path, server: Server) -> None:
    with FaultProxy(server.port) as proxy:
        proxy.cut_every, proxy.stall_every, proxy.stall_s = 3, 4, 5.0
        proxy.answer(503, "SlowDown")
        timer = threading.Timer(60, lambda: proxy.answer(0, ""))
        timer.start()
        kill_and_go_on(tmp_path, server, proxy, LARGE)
        timer.join()
        assert min(proxy.cuts, proxy.stalls, proxy.answered) > 0
    assert_same(without_s3(tmp_path, server, LARGE), server.bucket)
