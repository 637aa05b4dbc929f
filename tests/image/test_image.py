"""Dockerfile, build steps, sshd and .dockerignore fit each other, and the pods that use them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from components.launchers import manifest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = [
    *(ROOT / "image" / name for name in ("build.sh", "debian_root.sh", "start-sshd")),
    *sorted((ROOT / "setup").glob("*.sh")),
]


def steps(text: str) -> list[str]:
    """The steps of build.sh that a text runs."""
    return re.findall(r"image/build\.sh (\w+)", text)


def sshd_settings() -> dict[str, str]:
    lines = (ROOT / "image" / "sshd_config").read_text().splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_can_be_run_and_is_valid(script):
    shell = "bash" if "bash" in script.read_text().splitlines()[0] else "sh"
    assert subprocess.run([shell, "-n", script]).returncode == 0
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile_and_plain_root_run_the_same_steps_in_the_same_order():
    plain = re.search(r"for step in (.*); do", (ROOT / "image" / "debian_root.sh").read_text())
    assert plain
    in_root = plain[1].split()
    assert steps(DOCKERFILE) == [step for step in in_root if step != "clean"]
    known = re.search(r"usage: image/build\.sh (\S+) \.\.\.", (ROOT / "image" / "build.sh").read_text())
    assert known
    assert sorted(known[1].split("|")) == sorted(in_root)


def test_the_plain_root_gets_the_same_sources():
    listed = re.search(r'^SOURCES="(.*)"$', (ROOT / "image" / "debian_root.sh").read_text(), re.MULTILINE)
    assert listed
    assert set(listed[1].split()) == copied_sources()


def copied_sources() -> set[str]:
    """First part of every path that the Dockerfile copies from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return {word.rstrip("/").split("/")[0] for line in lines for word in line.split()[:-1]}


def test_what_the_dockerfile_copies_exists_and_is_let_through():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is left out"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied_sources(), "but this"
    assert [name for name in copied_sources() if not (ROOT / name).exists()] == []


def test_no_history_or_credential_is_let_through():
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (".git", ".env", "kubeconfig", ".dvc", "runs", "data", "mlflow.db"):
        assert f"!{name}" not in rules
    later = rules[max(i for i, rule in enumerate(rules) if rule.startswith("!")) + 1 :]
    for path in ("setup/.env", "configs/.env.local", "upsnet/tls.key", "upsnet/tls.pem"):
        assert any(fnmatch(path, rule.removeprefix("**/")) or fnmatch(path, f"*{rule[2:]}") for rule in later)


def test_the_image_runs_as_the_user_of_the_training_pods_with_a_process_that_reaps():
    assert f"\nUSER {manifest.USER}:{manifest.USER}\n" in DOCKERFILE
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in DOCKERFILE
    assert f"--uid {manifest.USER} " in (ROOT / "image" / "build.sh").read_text()


def test_base_and_device_can_be_chosen_and_default_to_debian_and_cpu():
    assert "\nARG BASE=debian:bookworm-slim\n" in DOCKERFILE
    assert set(re.findall(r"^ARG DEVICE.*$", DOCKERFILE, re.MULTILINE)) == {"ARG DEVICE=cpu"}


def test_sshd_listens_and_looks_for_keys_where_the_training_pods_expect_it():
    settings = sshd_settings()
    assert settings["Port"] == str(manifest.SSH_PORT)
    assert settings["AuthorizedKeysFile"] == f"{manifest.SSH_FOLDER}/authorized_keys"
    assert settings["HostKey"] == f"{manifest.SSH_FOLDER}/id_rsa"
    assert "start-sshd" in " ".join(manifest.worker_command())


def test_sshd_lets_in_keys_only_and_one_user_only():
    settings = sshd_settings()
    refused = (
        "PasswordAuthentication",
        "KbdInteractiveAuthentication",
        "PermitRootLogin",
        "AllowTcpForwarding",
    )
    assert {settings[name] for name in refused} == {"no"}
    assert settings["AllowUsers"] == "upsnet"


def test_ssh_goes_to_the_port_and_user_of_the_sshd():
    text = (ROOT / "image" / "ssh_config").read_text()
    assert f"Port {manifest.SSH_PORT}\n" in text
    assert "User upsnet\n" in text


def test_sshd_accepts_its_configuration():
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None:
        pytest.skip("sshd is not installed")
    user = 65534 if os.getuid() == 0 else None  # without privilege, as in a pod
    with tempfile.TemporaryDirectory() as folder:
        key, configuration = Path(folder) / "key", Path(folder) / "sshd_config"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        shutil.copy(ROOT / "image" / "sshd_config", configuration)
        for path in (Path(folder), key, configuration) if user else ():
            shutil.chown(path, user, user)
        command = [sshd, "-t", "-f", configuration, "-h", key]
        done = subprocess.run(command, capture_output=True, text=True, user=user)
    assert done.returncode == 0, done.stderr
