"""`python -m pipelines.submit` over real HTTP, against a server that speaks Kubeflow Pipelines v2beta1."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.client import PipelinesClient, UnreachableError
from pipelines.connection import Connection
from pipelines.submit import app
from pipelines.watch import WaitError, wait_for_run
from tests.horovod_workers import ROOT
from tests.pipelines.running import Ended, run_command
from tests.pipelines.servers import KfpServer, never

GIVEN = ("--preset", "mini", "--variants", "upsnet_c,no_unknown", "--interval", "0.01", "--timeout", "30")
RUNNING = ("RUNNING", {"configure": "SUCCEEDED", "train": ["RUNNING", "PENDING"]})
SUCCEEDED = (
    "SUCCEEDED",
    {"configure": "SUCCEEDED", "train": ["SUCCEEDED", "SUCCEEDED"], "compare": "SUCCEEDED"},
)
FAILED = ("FAILED", {"configure": "SUCCEEDED", "train": ["SUCCEEDED", "FAILED"]})


def submit(package: Path, *arguments: object) -> Ended:
    return run_command(app, package, *GIVEN, *arguments)


def created(kfp: KfpServer) -> dict:
    (request,) = [r for r in kfp.requests if r.method == "POST" and r.path == "/apis/v2beta1/runs"]
    return request.body


def test_a_run_is_started_watched_and_ends_well(kfp: KfpServer, package: Path) -> None:
    kfp.script = [("PENDING", {}), RUNNING, SUCCEEDED]
    ended = submit(package)
    assert (ended.code, ended.err) == (0, "")
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in ended.out.splitlines()]
    assert lines == [
        f"run: {kfp.url}/#/runs/details/{kfp.RUN_ID}",
        "MLflow: kubectl -n upsnet port-forward svc/mlflow 5000:5000, then http://localhost:5000, "
        "experiment upsnet",
        "configure: succeeded",
        "train: 1 running, 1 waiting",
        "run: running",
        "train: 2 succeeded",
        "compare: succeeded",
        "run: succeeded",
        "run ended: succeeded",
    ]


def test_the_run_gets_package_arguments_experiment_and_service_account(kfp: KfpServer, package: Path) -> None:
    ended = submit(package, "--no-wait", "--experiment", "mine", "--workers", 4, "--parameter", "note=a=b")
    assert ended.code == 0, ended.err
    run = created(kfp)
    assert run["runtime_config"]["parameters"] == {
        "preset": "mini",
        "variants": ["upsnet_c", "no_unknown"],
        "workers": 4,
        "note": "a=b",
        "experiment": "mine",
    }
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"] == {"name": "small"}
    assert "kubernetes" in run["pipeline_spec"]["platform_spec"]["platforms"]
    assert kfp.experiments == [{"experiment_id": "e0", "display_name": "mine", "namespace": "upsnet"}]
    assert (run["experiment_id"], run["service_account"]) == ("e0", "upsnet-pipeline")
    assert run["display_name"].startswith("small ")


def test_without_waiting_the_way_to_cancel_is_said(kfp: KfpServer, package: Path) -> None:
    ended = submit(package, "--no-wait")
    assert f"python -m pipelines.cancel {kfp.RUN_ID} --host {kfp.url}" in ended.out
    assert not [r for r in kfp.requests if r.method == "GET" and "/runs/" in r.path]


def test_an_experiment_that_is_there_is_used(kfp: KfpServer, package: Path) -> None:
    kfp.experiments = [
        {"experiment_id": "other", "display_name": "other"},
        {"experiment_id": "old", "display_name": "upsnet"},
    ]
    assert submit(package, "--no-wait").code == 0
    assert created(kfp)["experiment_id"] == "old"


def test_a_kubeflow_of_one_user_gets_no_namespace(kfp: KfpServer, package: Path) -> None:
    kfp.multi_user = False
    assert submit(package, "--no-wait").code == 0
    assert kfp.experiments == [{"experiment_id": "e0", "display_name": "upsnet"}]


def test_a_failed_run_ends_with_1_and_names_the_step(kfp: KfpServer, package: Path) -> None:
    kfp.script, kfp.error = [RUNNING, FAILED], "training exited with 3"
    ended = submit(package)
    assert ended.code == 1
    assert "run ended: failed" in ended.err
    assert "failed: train (1 failed, 1 succeeded)" in ended.err
    assert "training exited with 3" in ended.err


def test_a_run_that_somebody_cancels_ends_with_1(kfp: KfpServer, package: Path) -> None:
    kfp.script = [RUNNING, ("CANCELING", {}), ("CANCELED", {})]
    ended = submit(package)
    assert (ended.code, ended.err) == (1, "run ended: canceled\n")


def test_a_server_that_is_away_for_a_moment_does_not_end_the_wait(kfp: KfpServer, package: Path) -> None:
    kfp.script = [RUNNING, SUCCEEDED]
    looks = []

    def away(request):
        if request.method == "GET" and "/runs/" in request.path:
            looks.append(request)
            return (503, "upstream connect error") if len(looks) in (2, 3) else None
        return None

    kfp.before = away
    assert submit(package).code == 0
    assert len(looks) == 4


def test_waiting_ends_at_the_time_limit_and_the_run_goes_on(kfp: KfpServer, package: Path) -> None:
    ended = submit(package, "--timeout", "0.05")
    assert ended.code == 1
    assert "the run goes on. To cancel it: python -m pipelines.cancel" in ended.err
    assert kfp.runs[kfp.RUN_ID]["state"] == "PENDING"


def test_ctrl_c_ends_the_waiting_and_not_the_run(kfp: KfpServer, package: Path) -> None:
    command = [sys.executable, "-m", "pipelines.submit", str(package), *GIVEN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 60
            while not kfp.runs or not any("/runs/" in r.path for r in kfp.requests):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"the run goes on. To cancel it: python -m pipelines.cancel {kfp.RUN_ID}" in out
    assert not [r for r in kfp.requests if r.path.endswith(":terminate")]


def test_a_host_that_nobody_answers_is_named_with_the_way_out(environment, package: Path) -> None:
    with KfpServer() as server:
        url = server.url
    ended = submit(package, "--host", url)
    assert ended.code == 2
    assert ended.err.startswith(f"error: Kubeflow Pipelines at {url} does not answer")
    assert "port-forward" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_host_must_be_given(environment, package: Path) -> None:
    ended = submit(package)
    assert ended.code == 2
    assert "Give --host or set KFP_HOST" in ended.err


@pytest.mark.parametrize(
    "host", ["localhost:8080", "ftp://x", "http://", "http://a b", "http://ann:pass-word@x"]
)
def test_a_host_that_is_no_address_is_refused(environment, package: Path, host: str) -> None:
    ended = submit(package, "--host", host)
    assert ended.code == 2
    assert "expected the address of Kubeflow Pipelines" in ended.err
    assert "pass-word" not in ended.err


def test_the_token_of_a_file_lets_in(kfp: KfpServer, package: Path, tmp_path: Path) -> None:
    kfp.token = "the-secret-token"
    file = tmp_path / "token"
    file.write_text("the-secret-token\n")
    assert submit(package, "--no-wait", "--token-file", file).code == 0


def test_a_cookie_lets_in(kfp: KfpServer, package: Path) -> None:
    kfp.cookie = "authservice_session=abc"
    assert submit(package, "--no-wait", "--cookie", "authservice_session=abc").code == 0


def test_a_wrong_token_is_refused_and_never_shown(kfp: KfpServer, package: Path) -> None:
    kfp.token = "right"
    ended = submit(package, "--token", "wrong-but-secret")
    assert ended.code == 2
    assert "asks for a login (HTTP 401)" in ended.err
    assert "wrong-but-secret" not in ended.out + ended.err


def test_a_login_page_is_told_from_an_answer(kfp: KfpServer, package: Path) -> None:
    kfp.cookie = "authservice_session=abc"
    ended = submit(package)
    assert ended.code == 2
    assert "asks for a login (HTTP 302)" in ended.err


def test_a_web_page_at_the_address_is_no_kubeflow_pipelines(kfp: KfpServer, package: Path) -> None:
    kfp.before = lambda request: (200, "<html>Kubeflow</html>")
    ended = submit(package)
    assert ended.code == 2
    assert "not as Kubeflow Pipelines" in ended.err
    assert "https://HOST/pipeline" in ended.err


def test_a_token_with_a_line_break_is_refused_unseen(kfp: KfpServer, package: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-line\nsecond-line\n")
    ended = submit(package, "--token-file", file)
    assert ended.code == 2
    assert "expected one line" in ended.err
    assert "first-line" not in ended.err


@pytest.mark.parametrize("content", [None, ""])
def test_a_token_file_without_a_token_is_named(
    kfp, package: Path, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    ended = submit(package, "--token-file", file)
    assert ended.code == 2
    assert f"--token-file {file}" in ended.err


def test_a_wrong_namespace_is_said_in_the_servers_words(kfp: KfpServer, package: Path) -> None:
    ended = submit(package, "--namespace", "theirs")
    assert ended.code == 2
    assert "not authorized in namespace 'theirs'" in ended.err
    assert "check --namespace" in ended.err
    assert not kfp.runs


def test_no_request_waits_for_a_silent_server_for_ever(kfp: KfpServer) -> None:
    kfp.before = never
    with pytest.raises(UnreachableError, match=r"does not answer \(timed out\)"):
        PipelinesClient(Connection(kfp.url), (0.2, 0.2)).run(kfp.RUN_ID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--parameter", "colour=red"],
            "pipeline small has no parameter colour; it has experiment, note, preset",
        ),
        (["--launcher", "mpijob"], "has no parameter launcher"),
        (["--parameter", "workers=two"], "--parameter workers=two: expected NUMBER_INTEGER as JSON"),
        (["--parameter", "workers=true"], "found bool, expected NUMBER_INTEGER"),
        (["--parameter", "variants={}"], "found dict, expected LIST"),
        (["--parameter", "workers"], "expected NAME=VALUE"),
    ],
)
def test_arguments_that_do_not_fit_the_pipeline_are_refused(kfp, package: Path, arguments, message) -> None:
    ended = submit(package, *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert not kfp.runs


def test_a_missing_parameter_is_named(kfp: KfpServer, package: Path) -> None:
    ended = run_command(app, package, "--preset", "mini")
    assert ended.code == 2
    assert "pipeline small needs variants" in ended.err


@pytest.mark.parametrize("content", [None, "a: b", "{", "- root"])
def test_a_file_that_is_no_compiled_pipeline_is_named(kfp, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "pipeline.yaml"
    if content is not None:
        file.write_text(content)
    ended = run_command(app, file)
    assert ended.code == 2
    assert str(file) in ended.err


def test_the_address_of_mlflow_is_printed_without_its_password(kfp: KfpServer, package: Path) -> None:
    ended = submit(package, "--no-wait", "--mlflow-url", "http://ann:pass-word@localhost:5000")
    assert ended.code == 0, ended.err
    assert "pass-word" not in ended.out
    assert "MLflow: http://***@localhost:5000/#/experiments" in ended.out


STEPS = ("configure", "prepare", "train", "evaluate", "compare", "register")
OUR_OPTIONS = (
    *("--preset", "mini", "--override", "training.iterations=10", "--override", "seed=1"),
    *("--data-source", "https://git.example.com/data.git", "--data-revision", "v1"),
    *("--data-remote", "s3://a-bucket/dvc", "--workers", "4", "--gpus-per-worker", "2"),
    *(
        "--launcher",
        "mpijob",
        "--image",
        "registry.example.com/upsnet:0.1.0",
        "--experiment",
        "mine",
        "--no-wait",
    ),
)


@pytest.mark.parametrize(
    ("pipeline", "given", "variants"),
    [
        ("training", [], None),
        ("training", ["--variants", "upsnet_c+no_unknown"], "upsnet_c+no_unknown"),
        ("training", ["--variants", "upsnet"], ""),
        ("ablation", ["--variants", "upsnet,upsnet_c", "--variants", "a+b"], ["", "upsnet_c", "a+b"]),
    ],
)
def test_our_pipelines_take_every_option(kfp: KfpServer, pipeline: str, given, variants) -> None:
    ended = run_command(app, pipeline, *OUR_OPTIONS, *given)
    assert ended.code == 0, ended.err
    parameters = created(kfp)["runtime_config"]["parameters"]
    assert parameters.pop("variants", None) == variants
    assert parameters == {
        "preset": "mini",
        "overrides": ["training.iterations=10", "seed=1"],
        "data_source": "https://git.example.com/data.git",
        "data_revision": "v1",
        "data_remote": "s3://a-bucket/dvc",
        "workers": 4,
        "gpus_per_worker": 2,
        "launcher": "mpijob",
        "image": "registry.example.com/upsnet:0.1.0",
        "experiment": "mine",
    }


def test_a_training_of_several_networks_is_an_ablation(kfp: KfpServer) -> None:
    ended = run_command(app, "training", "--variants", "upsnet_c,no_unknown")
    assert ended.code == 2
    assert "--variants upsnet_c,no_unknown: pipeline training takes one" in ended.err
    assert not kfp.runs


def test_the_steps_of_our_pipelines_are_shown_in_order(kfp: KfpServer) -> None:
    kfp.script = [("SUCCEEDED", dict.fromkeys(reversed(STEPS), "SUCCEEDED"))]
    ended = run_command(app, "ablation", "--interval", "0.01", "--timeout", "30")
    assert ended.code == 0
    assert re.findall(r"  ([a-z-]+): succeeded", ended.out) == [*STEPS, "run"]


def test_a_pipeline_that_is_not_there_is_named(kfp: KfpServer) -> None:
    ended = run_command(app, "trainign")
    assert ended.code == 2
    assert "pipeline 'trainign'" in ended.err


def test_a_token_that_runs_out_ends_the_waiting_and_not_the_run(kfp: KfpServer, package: Path) -> None:
    kfp.before = lambda request: (401, "") if request.method == "GET" and "/runs/" in request.path else None
    ended = submit(package)
    assert ended.code == 2
    assert "stopped waiting, the run may go on" in ended.err
    assert "asks for a login" in ended.err
    assert f"python -m pipelines.cancel {kfp.RUN_ID}" in ended.err


def test_a_server_that_stays_away_ends_the_wait_at_last(kfp: KfpServer) -> None:
    kfp.before = lambda request: (503, "upstream connect error")
    console = Console(file=io.StringIO())
    with pytest.raises(WaitError, match=r"the run may go on: .* HTTP 503"):
        wait_for_run(
            *(PipelinesClient(Connection(kfp.url)), kfp.RUN_ID, ["train"], console),
            interval_s=0.01,
            timeout_s=30,
            silence_s=0.1,
        )


def test_a_terminal_shows_the_steps_as_a_table(kfp: KfpServer) -> None:
    kfp.runs[kfp.RUN_ID] = {"state": "RUNNING"}
    kfp.script = [RUNNING, SUCCEEDED]
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    run = wait_for_run(
        *(PipelinesClient(Connection(kfp.url)), kfp.RUN_ID, ["configure", "train", "compare"], console),
        interval_s=0.01,
        timeout_s=30,
    )
    assert run.state == "SUCCEEDED"
    screen = console.file.getvalue()
    for words in ("configure", "1 running, 1 waiting", "2 succeeded", "compare"):
        assert words in screen
