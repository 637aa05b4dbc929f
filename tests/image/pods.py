"""Pods without a cluster: processes with a network, host name, process tree and writable layer of their own.

Each pod is a network namespace on one bridge, and runs as user 1000 without privileges in an overlay of the
image's file system. It sees the mpi-operator's mounts: keys in /home/upsnet/.ssh, the hostfile in /etc/mpi.
Needs root, and the programs ip, unshare and setpriv.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

IMAGE_ENVIRONMENT = {"PATH": "/opt/upsnet/.venv/bin:/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
"""What the Dockerfile's ENV sets."""

# $1 is the image's file system, $2 the pod's own folder, $3 its name; then the command, as the image's user.
START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o lowerdir="$1",upperdir="$2/upper",workdir="$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mkdir -p run/upsnet etc/mpi data home/upsnet/.ssh
mount -t tmpfs -o mode=1777 tmpfs run/upsnet
mount --bind "$DATA" data
mount -o bind,ro "$SECRET" home/upsnet/.ssh
mount -o bind,ro "$MPI" etc/mpi
cat "$MPI/hosts" >etc/hosts
hostname "$3"
ip link set lo up
shift 3
exec setpriv --no-new-privs chroot --userspec=1000:1000 --groups=1000 . "$@"
"""


class Cluster:
    """The network of the pods of one job, and what they share."""

    def __init__(self, image: Path, folder: Path, pods: Sequence[str], hostfile: str) -> None:
        self.image, self.folder, self.tag = image, folder, f"u{os.getpid()}"
        self.addresses = {name: f"10.77.0.{10 + number}" for number, name in enumerate(pods)}
        self.data, self.secret, self.mpi = folder / "data", folder / "ssh", folder / "mpi"
        for path in (self.data, self.secret, self.mpi):
            path.mkdir()
        shutil.chown(self.data, 1000, 1000)
        self._write_keys()
        (self.mpi / "hostfile").write_text(hostfile)
        lines = [f"{address} {name}" for name, address in self.addresses.items()]
        (self.mpi / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def __enter__(self) -> Cluster:
        self._ip(f"netns add {self.tag}", f"-n {self.tag} link add bridge type bridge")
        self._ip(f"-n {self.tag} link set bridge up")
        for number, (name, address) in enumerate(self.addresses.items()):
            space, port = self._space(name), f"port{number}"
            self._ip(f"netns add {space}", f"-n {self.tag} link add {port} type veth peer eth0 netns {space}")
            self._ip(f"-n {self.tag} link set {port} master bridge up", f"-n {space} link set eth0 up")
            self._ip(f"-n {space} address add {address}/24 dev eth0")
        return self

    def __exit__(self, *_: object) -> None:
        for space in [*map(self._space, self.addresses), self.tag]:
            subprocess.run(["ip", "netns", "delete", space], check=False)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Starts a pod; its output goes to a file."""
        folder = self.folder / f"pod-{name}"
        folder.mkdir(exist_ok=True)
        apart = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"]
        variables = [f"{key}={value}" for key, value in {**IMAGE_ENVIRONMENT, **environment}.items()]
        inside = ["/usr/bin/env", "-i", "HOME=/home/upsnet", *variables, *command]
        arguments = [str(self.image), str(folder), name.partition(".")[0]]
        around = {**os.environ, "DATA": str(self.data), "SECRET": str(self.secret), "MPI": str(self.mpi)}
        return subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self._space(name),
                *apart,
                "bash",
                "-c",
                START,
                "pod",
                *arguments,
                *inside,
            ],
            env=around,
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @staticmethod
    def stop(pod: subprocess.Popen[bytes]) -> None:
        """Kills a pod: with the first process of its process tree go all others."""
        if pod.poll() is None:
            os.killpg(pod.pid, signal.SIGKILL)
        pod.wait(60)

    def _write_keys(self) -> None:
        """A key pair as a Secret is mounted: of root, readable by the pod's group, in an open folder."""
        key = self.secret / "id_rsa"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
        shutil.copy(self.secret / "id_rsa.pub", self.secret / "authorized_keys")
        for path in self.secret.iterdir():
            shutil.chown(path, 0, 1000)
            path.chmod(0o640)
        shutil.chown(self.secret, 0, 1000)
        self.secret.chmod(0o3777)

    def _space(self, name: str) -> str:
        return f"{self.tag}-{list(self.addresses).index(name)}"

    def _ip(self, *commands: str) -> None:
        for command in commands:
            subprocess.run(["ip", *shlex.split(command)], check=True)
