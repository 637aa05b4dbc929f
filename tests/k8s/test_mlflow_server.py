"""The MLflow container's own command line and environment start a real server on a real PostgreSQL.

What stands for the cluster: PostgreSQL, MLflow and S3 are processes of this machine, Secrets are values made
here, and the names of the Services are addresses on loopback.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.rendered import OVERLAYS, Object, containers, of_kind, overlay

pytestmark = pytest.mark.slow
USER, PASSWORD = "engineer", secrets.token_hex(16)
POSTGRES_PASSWORD = secrets.token_hex(16)
POSTGRES_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PATIENCE_S = 180


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def postgres_folder() -> Iterator[Path]:
    """A folder that PostgreSQL may use; pytest's own are closed to all but the tests' user."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def postgres_port(postgres_folder: Path) -> Iterator[int]:
    """A PostgreSQL with the user and database that the StatefulSet's environment names."""
    if not POSTGRES_PROGRAMS:
        pytest.skip("PostgreSQL is not on this machine")
    programs, folder, port = POSTGRES_PROGRAMS[-1], postgres_folder, free_port()
    (folder / "password").write_text(POSTGRES_PASSWORD)
    as_other = []
    if os.getuid() == 0:  # PostgreSQL refuses root
        shutil.chown(folder, "nobody")
        as_other = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    make = [programs / "initdb", "-D", folder / "data", "-U", "mlflow", "--auth=scram-sha-256"]
    subprocess.run([*as_other, *make, f"--pwfile={folder}/password"], check=True, capture_output=True)
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    server = subprocess.Popen([*as_other, programs / "postgres", "-D", folder / "data", *options])
    environment = {**os.environ, "PGPASSWORD": POSTGRES_PASSWORD}
    made = ["createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
    until(lambda: subprocess.run(made, env=environment, capture_output=True).returncode == 0, server)
    yield port
    server.terminate()
    server.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the Secret s3-credentials holds for an S3 server of this machine with the overlay's bucket."""
    folder, address = tmp_path_factory.mktemp("s3"), f"127.0.0.1:{free_port()}"
    (folder / "upsnet-mlflow").mkdir()
    serve = ["rclone", "serve", "s3", "--auth-key", f"key,{PASSWORD}", "--addr", address, folder]
    process = subprocess.Popen(serve)
    until(lambda: ask(f"http://{address}") != 0, process)
    endpoint = {"AWS_ENDPOINT_URL": f"http://{address}", "AWS_REGION": "us-east-1"}
    yield {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": PASSWORD, **endpoint}
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.fixture(scope="module", params=OVERLAYS)
def server(
    request: pytest.FixtureRequest, postgres_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The MLflow server as an overlay's Deployment starts it; its address."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed")
    objects, folder, port = overlay(request.param), tmp_path_factory.mktemp("mlflow"), free_port()
    container = dict(containers(objects))["Deployment/mlflow/mlflow"]
    tables = dict(containers(objects))["Deployment/mlflow/tables"]
    config = of_kind(objects, "ConfigMap")["mlflow-config"]["data"]

    def here(text: str) -> str:
        text = text.replace("mlflow-postgres:5432", f"127.0.0.1:{postgres_port}")
        return text.replace("0.0.0.0", "127.0.0.1").replace("=5000", f"={port}").replace(":5000", f":{port}")

    (folder / "basic_auth.ini").write_text(here(config["basic_auth.ini"]))
    environment = {name: here(value) for name, value in container_environment(container, config).items()}
    if environment["ARTIFACTS_DESTINATION"].startswith("s3://"):
        environment.update(request.getfixturevalue("s3"))
    else:
        environment["ARTIFACTS_DESTINATION"] = str(folder / "artifacts")
    environment["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "basic_auth.ini")
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    upgrade = [sys.executable, "-m", *map(here, tables["args"])]
    variables = container_environment(tables, config)
    subprocess.run(upgrade, cwd=folder, env={**paths, **variables}, check=True, timeout=PATIENCE_S)
    arguments = [here(expand(argument, environment)) for argument in container["args"]]
    assert arguments[:2] == ["mlflow", "server"]
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=folder, env={**paths, **environment})
    address = f"http://127.0.0.1:{port}"
    until(lambda: ask(address + container["readinessProbe"]["httpGet"]["path"]) == 200, process)
    yield address
    process.terminate()
    process.wait(PATIENCE_S)


def container_environment(container: Object, config: dict[str, str]) -> dict[str, str]:
    """The variables as Kubernetes would set them."""
    values = {
        ("mlflow-credentials", "MLFLOW_TRACKING_USERNAME"): USER,
        ("mlflow-credentials", "MLFLOW_TRACKING_PASSWORD"): PASSWORD,
        ("mlflow-server", "FLASK_SECRET_KEY"): secrets.token_hex(16),
        ("mlflow-server", "POSTGRES_PASSWORD"): POSTGRES_PASSWORD,
    }
    found: dict[str, str] = {}
    for entry in container["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = values[source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]]
        elif "configMapKeyRef" in source:
            value = config[source["configMapKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = "upsnet"
        else:
            value = expand(entry["value"], found)
        found[entry["name"]] = value
    return found


def expand(text: str, environment: dict[str, str]) -> str:
    """$(NAME) as Kubernetes replaces it."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], text)


def until(condition, process: subprocess.Popen[bytes]) -> None:
    """Waits for a condition as long as the process lives, and not for ever."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end, f"not ready after {PATIENCE_S} s"
        time.sleep(0.5)


def ask(url: str, *, login: str = "", host: str = "") -> int:
    """The status of a GET; 0 if nobody listens."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


def test_only_who_knows_the_password_gets_in(server):
    assert ask(server + EXPERIMENTS) == 401
    assert ask(server + EXPERIMENTS, login=f"{USER}:wrong") == 401
    assert ask(server + EXPERIMENTS, login=f"{USER}:{PASSWORD}") == 200


@pytest.mark.parametrize(
    "name", ["mlflow", "mlflow.upsnet", "mlflow.upsnet.svc", "mlflow.upsnet.svc.cluster.local"]
)
def test_it_answers_to_the_names_of_its_service(server, name):
    port = server.rpartition(":")[2]
    assert ask(server + EXPERIMENTS, login=f"{USER}:{PASSWORD}", host=f"{name}:{port}") == 200


def test_it_answers_to_no_other_name(server):
    assert ask(server + EXPERIMENTS, login=f"{USER}:{PASSWORD}", host="evil.example:5000") == 403


def test_the_probes_need_no_password(server):
    assert ask(server + "/health", host="10.1.2.3:5000") == 200


def test_a_run_and_its_artifact_go_through_the_server(server, tmp_path):
    (tmp_path / "note.txt").write_text("kept")
    program = (
        "import mlflow, sys\n"
        "mlflow.set_experiment('upsnet')\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_metric('PQ', 62.7)\n"
        "    mlflow.log_artifact('note.txt')\n"
        "client = mlflow.MlflowClient()\n"
        "assert client.get_run(run.info.run_id).data.metrics == {'PQ': 62.7}\n"
        "assert run.info.artifact_uri.startswith('mlflow-artifacts:'), run.info.artifact_uri\n"
        "assert [found.path for found in client.list_artifacts(run.info.run_id)] == ['note.txt']\n"
    )
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": server,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=PATIENCE_S
    )
