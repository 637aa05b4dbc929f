"""Training speed with MLflow on against off, both at the same time, on a real server.

python benchmarks/tracking_overhead.py [--iterations 100] [--rounds 4]

A machine's speed changes more from minute to minute than tracking costs, so the two trainings of a round run
side by side, one core each, and change cores for the next round. Prints iterations per second of every
training, from its own log without the first interval, and the ratio of the medians: on / off. Training is the
mini preset.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from statistics import median

INTERVAL = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, uri = start_server(folder)
        try:
            prepare(folder, given.iterations)
            speeds = measure(folder, uri, given.rounds)
        finally:
            server.terminate()
            server.wait(30)
    for mode, values in speeds.items():
        print(
            f"MLflow {mode:3}: {median(values):.3f} iterations/s  ({', '.join(f'{v:.3f}' for v in values)})"
        )
    print(f"on / off: {median(speeds['on']) / median(speeds['off']):.3f}")


def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server over SQLite that answers, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    uri = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=2).close()
            return server, uri
        except OSError:
            time.sleep(0.5)
    server.terminate()
    raise SystemExit("the MLflow server does not answer")


def prepare(folder: Path, iterations: int) -> None:
    """Data, and one configuration per mode."""
    for mode in ("on", "off"):
        settings = [f"training.iterations={iterations}", f"training.log_interval={INTERVAL}"]
        settings += [
            "training.steps=[]",
            "training.reference_batch=2",
            "data.synthetic.train_images=80",
            "data.synthetic.val_images=4",
        ]
        settings += ["training.checkpoint_interval=100000", f"tracking.mlflow={mode == 'on'}".lower()]
        upsnet("configure", *settings, "--out", folder / f"{mode}.yaml")
    upsnet("prepare", "--config", folder / "on.yaml", "--out", folder / "data")


def measure(folder: Path, uri: str, rounds: int) -> dict[str, list[float]]:
    """Iterations per second of every training by mode."""
    speeds: dict[str, list[float]] = {"on": [], "off": []}
    cores = sorted(os.sched_getaffinity(0))[:2]
    for number in range(rounds):
        swapped = cores if number % 2 == 0 else cores[::-1]
        trainings = {
            mode: train(folder, uri, mode, number, core) for mode, core in zip(speeds, swapped, strict=True)
        }
        for mode, training in trainings.items():
            if training.wait() != 0:
                raise SystemExit((folder / f"{mode}-{number}.txt").read_text())
            speeds[mode].append(speed(folder / f"{mode}-{number}"))
        on, off = speeds["on"][-1], speeds["off"][-1]
        print(
            f"round {number + 1}: on {on:.3f}, off {off:.3f} iterations/s, on / off {on / off:.3f}",
            flush=True,
        )
    return speeds


def train(folder: Path, uri: str, mode: str, number: int, core: int) -> subprocess.Popen[bytes]:
    """Starts a training on one core."""
    out = folder / f"{mode}-{number}"
    command = [sys.executable, "-m", "upsnet.cli", "train", "--config", folder / f"{mode}.yaml"]
    command += ["--data", folder / "data", "--out", out]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    with (folder / f"{out.name}.txt").open("wb") as log:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def speed(out: Path) -> float:
    """From the first line of the log to the last: its wall time holds all that tracking could slow down."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    seconds = datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])
    return float((last["step"] - first["step"]) / seconds.total_seconds())


def upsnet(*arguments: object, **environment: str) -> None:
    """Runs the program and shows what it says if it fails."""
    command = [sys.executable, "-m", "upsnet.cli", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
