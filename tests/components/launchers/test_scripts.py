"""The scripts of the pods, run by bash; programs that only an image has are stood in for."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from components.launchers.manifest import launcher_command, worker_command
from tests.components.launchers.conftest import QUICK
from tests.components.launchers.jobs import small_job

ODD_VALUE = "two\nlines; 'quotes' \"double\" $HOME `date` \\ ü"


class Pod:
    """A folder with programs and files, in place of a container."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()

    def add_program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def launcher(pod: Pod, hosts: str, wait_s: int = 5) -> list[str]:
    """The launcher's real command, with a host file of this pod."""
    (pod.folder / "hostfile").write_text(hosts)
    made = launcher_command(small_job(), QUICK)
    at = made.index("launcher.sh")
    return [*made[: at + 1], str(pod.folder / "hostfile"), str(wait_s), *made[at + 3 :]]


def test_mpirun_starts_when_every_host_answers(pod: Pod) -> None:
    # The second host answers at the third attempt.
    pod.add_program(
        "ssh", 'echo "$@" >> asked; [[ "$*" != *w-1* ]] || [ "$(grep -c w-1 asked)" -ge 3 ] || exit 255'
    )
    pod.add_program("mpirun", 'echo "mpirun" "$@" "after $(wc -l < asked)"')
    done = pod.run(launcher(pod, "# made by the operator\nw-0.mini.upsnet.svc slots=1\n\nw-1.mini slots=1\n"))
    assert done.returncode == 0, done.stderr
    assert "2 host(s) answer" in done.stderr
    assert done.stdout.startswith("mpirun --hostfile /etc/mpi/hostfile -np 2 ")
    assert done.stdout.endswith("--expect-workers 2 after 4\n")


def test_mpirun_of_open_mpi_4_and_5_keeps_the_whole_names_of_the_hosts(pod: Pod) -> None:
    pod.add_program("ssh", "")
    pod.add_program("mpirun", 'echo "$OMPI_MCA_orte_keep_fqdn_hostnames $PRTE_MCA_prte_keep_fqdn_hostnames"')
    assert pod.run(launcher(pod, "w-0.mini.upsnet.svc slots=1\n")).stdout == "1 1\n"


def test_a_host_that_never_answers_ends_the_wait_with_its_words(pod: Pod) -> None:
    pod.add_program("ssh", 'echo "Could not resolve hostname w-0" >&2; exit 255')
    pod.add_program("mpirun", "echo started")
    done = pod.run(launcher(pod, "w-0 slots=1\n", wait_s=1))
    assert done.returncode == 75
    assert done.stderr == "launcher: no ssh to w-0 in 1 s: Could not resolve hostname w-0\n"
    assert done.stdout == ""


def test_an_empty_host_file_is_told(pod: Pod) -> None:
    done = pod.run(launcher(pod, "# nobody\n"))
    assert done.returncode == 75
    assert "names no host" in done.stderr


def test_the_exit_code_of_mpirun_is_the_container_s(pod: Pod) -> None:
    pod.add_program("ssh", "exit 0")
    pod.add_program("mpirun", "exit 137")
    assert pod.run(launcher(pod, "w-0 slots=1\n")).returncode == 137


def test_sigterm_ends_the_wait_for_ssh(pod: Pod) -> None:
    pod.add_program("ssh", "touch asked; exit 255")
    path = f"{pod.folder / 'bin'}:{os.environ['PATH']}"
    running = subprocess.Popen(launcher(pod, "w-0\n", wait_s=50), cwd=pod.folder, env={"PATH": path})
    for _ in range(600):
        if (pod.folder / "asked").exists():
            break
        time.sleep(0.1)
    running.terminate()
    assert running.wait(60) == 143


def start_worker(pod: Pod, **environment: str) -> Path:
    """Runs the worker's real command up to its sshd; the file that it wrote."""
    pod.add_program("start-sshd", "echo sshd")
    *command, _ = worker_command()
    file = pod.folder / "environment"
    done = pod.run([*command, str(file)], **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sshd\n"
    return file


def start_rank(pod: Pod, file: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a rank as ssh would, with none of the worker's environment."""
    mpirun = launcher_command(small_job(), QUICK)
    first = mpirun.index("rank.sh") - 3
    return pod.run([*mpirun[first : first + 4], str(file), *command], OMPI_COMM_WORLD_RANK="1")


def test_every_variable_of_the_worker_reaches_the_rank(pod: Pod) -> None:
    file = start_worker(pod, MLFLOW_TRACKING_PASSWORD="word", ODD=ODD_VALUE)
    names = ["MLFLOW_TRACKING_PASSWORD", "ODD", "OMPI_COMM_WORLD_RANK"]
    code = f"import os; print(ascii([os.environ[name] for name in {names}]))"
    done = start_rank(pod, file, "python3", "-c", code)
    assert done.stdout.strip() == ascii(["word", ODD_VALUE, "1"]), done.stderr


def test_the_environment_is_readable_by_its_user_alone(pod: Pod) -> None:
    file = start_worker(pod, SECRET="word")
    assert file.stat().st_mode & 0o777 == 0o600
    start_worker(pod, SECRET="another")  # a container that comes back writes it anew
    assert start_rank(pod, file, "printenv", "SECRET").stdout == "another\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_arguments_of_a_rank_stay_whole(pod: Pod) -> None:
    file = start_worker(pod)
    done = start_rank(pod, file, "printf", "<%s>", "two words", "$HOME", "")
    assert done.stdout == "<two words><$HOME><>"


def test_a_rank_outside_of_a_worker_is_refused(pod: Pod) -> None:
    done = start_rank(pod, pod.folder / "missing", "echo", "training")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "is no Worker" in done.stderr
    assert done.stdout == ""
