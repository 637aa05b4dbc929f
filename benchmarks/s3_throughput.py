"""Speed of pushing and pulling shards, beside `rclone copy`: the same server, files and machine, one run.

    python -m benchmarks.s3_throughput [--gigabytes 2] [--shard-megabytes 256] [--rounds 3]

The server is `rclone serve s3` on this machine. Every round pushes and pulls with both programs, in turns; a
program is started anew for each, so its start counts. The medians and their ratios are printed; above 1 this
program is faster.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RCLONE = str(Path(sys.executable).with_name("rclone"))
BUCKET, KEY, SECRET = "benchmark", "benchmark-key", "benchmark-secret"
CHUNK = 2**20
START_S = 30
PUSH = (
    "import sys; from pathlib import Path; from upsnet.storage.transfer import upload_folder\n"
    "from upsnet.storage.paths import parse_s3\n"
    "upload_folder(Path(sys.argv[1]), parse_s3(sys.argv[2]))"
)
PULL = (
    "import sys; from pathlib import Path; from upsnet.storage.transfer import download_folder\n"
    "from upsnet.storage.paths import parse_s3\n"
    "download_folder(parse_s3(sys.argv[1]), Path(sys.argv[2]))"
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--shard-megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = make_shards(folder / "shards", options.gigabytes, options.shard_megabytes)
        with server(folder / "served") as environment:
            seconds = measure(folder, environment, options.rounds)
    print(f"{size / 10**9:.2f} GB in shards of {options.shard_megabytes} MB, median of {options.rounds}")
    for what, (ours, theirs) in seconds.items():
        mine, other = size / 10**6 / ours, size / 10**6 / theirs
        print(f"{what}: upsnet {mine:.0f} MB/s, rclone copy {other:.0f} MB/s, ratio {theirs / ours:.2f}")


def measure(folder: Path, environment: dict[str, str], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of this program and of rclone, by `push` and `pull`."""
    shards, python = str(folder / "shards"), [sys.executable, "-c"]
    times: dict[str, tuple[list[float], list[float]]] = {"push": ([], []), "pull": ([], [])}
    for number in range(rounds):
        ours, theirs = f"s3://{BUCKET}/ours-{number}", f":s3:{BUCKET}/theirs-{number}"
        push = [[*python, PUSH, shards, ours], [RCLONE, "copy", shards, theirs]]
        pull = [
            [*python, PULL, ours, str(folder / "ours")],
            [RCLONE, "copy", theirs, str(folder / "theirs")],
        ]
        for what, commands in (("push", push), ("pull", pull)):
            for which in (0, 1) if number % 2 == 0 else (1, 0):  # neither is always the first
                times[what][which].append(run(commands[which], environment))
        for place in ("ours", "theirs"):
            refuse_difference(folder / "shards", folder / place)
            shutil.rmtree(folder / place)
            shutil.rmtree(folder / "served" / BUCKET / f"{place}-{number}")
    return {what: (statistics.median(a), statistics.median(b)) for what, (a, b) in times.items()}


def run(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that a program takes, on a disk that has nothing left to write."""
    os.sync()
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    return time.perf_counter() - started


def make_shards(folder: Path, gigabytes: float, shard_megabytes: int) -> int:
    """Files of random bytes, which nothing can make smaller; returns their bytes."""
    folder.mkdir(parents=True)
    left = size = round(gigabytes * 10**9)
    number = 0
    while left > 0:
        with (folder / f"train-{number:05d}.tar").open("wb") as file:
            for _ in range(min(left, shard_megabytes * 10**6) // CHUNK + 1):
                file.write(os.urandom(min(CHUNK, left)))
                left -= min(CHUNK, left)
        number += 1
    return size


def refuse_difference(expected: Path, found: Path) -> None:
    """Both programs must have moved all bytes."""
    for path in expected.iterdir():
        if subprocess.run(["cmp", path, found / path.name], check=False).returncode != 0:
            sys.exit(f"{found / path.name} differs from {path}")


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """`rclone serve s3`; yields the environment in which both programs use it."""
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [
        RCLONE,
        "serve",
        "s3",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--addr",
        f"127.0.0.1:{port}",
        str(folder),
    ]
    process = subprocess.Popen(serve, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield environment_for(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(START_S)


def environment_for(url: str) -> dict[str, str]:
    """Variables of both programs."""
    rclone = {"PROVIDER": "Rclone", "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "ENDPOINT": url}
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "RCLONE_CONFIG": os.devnull,
        **{f"RCLONE_S3_{name}": value for name, value in rclone.items()},
    }


def wait_for(port: int) -> None:
    """Until the server listens."""
    for _ in range(START_S * 10):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("rclone serve s3 does not listen")


if __name__ == "__main__":
    main()
