"""The reaper against an API server of the tests' own."""

import sys

import pytest

from components.launchers import reap
from components.launchers.manifest import build_manifest
from tests.components.launchers.cluster_server import NAMESPACE, ClusterServer, idle_operator
from tests.components.launchers.conftest import QUICK, StartCluster
from tests.components.launchers.jobs import small_job


def add_job(cluster: ClusterServer, name: str, phase: str | None, uid: str = "") -> str:
    """An MPIJob of the step `name`, whose pod is in a phase, or gone."""
    environ = {"KFP_POD_NAME": name, "KFP_POD_UID": f"uid-{name}"}
    job = cluster.put(build_manifest(small_job(name=name), QUICK, environ))
    if phase is not None:
        metadata = {"name": name, "uid": uid or f"uid-{name}"}
        cluster.pods[name] = {"metadata": metadata, "status": {"phase": phase}}
    made: str = job["metadata"]["name"]
    return made


def run_reaper(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    command = ["reap", "--namespace", NAMESPACE, "--patience", "1", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        reap.main()
    return int(ended.value.code or 0)


def test_only_jobs_whose_step_has_ended_are_deleted(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(idle_operator)
    running = [add_job(cluster, "step-running", "Running"), add_job(cluster, "step-pending", "Pending")]
    ended = [add_job(cluster, "step-failed", "Failed"), add_job(cluster, "step-succeeded", "Succeeded")]
    gone = [add_job(cluster, "step-gone", None), add_job(cluster, "step-again", "Running", uid="another")]
    long = add_job(cluster, "a-step-with-a-very-long-name-" + "x" * 80, "Running")
    by_hand = cluster.put(build_manifest(small_job(name="by hand"), QUICK, {}))["metadata"]["name"]
    assert run_reaper(monkeypatch) == 0
    assert sorted(name for name, _ in cluster.deletions) == sorted(ended + gone)
    assert {policy for _, policy in cluster.deletions} == {"Foreground"}
    assert {*running, long, by_hand} <= set(cluster.jobs)
    out = capsys.readouterr().out
    assert f"deleted MPIJob {ended[0]}: its step's pod step-failed has ended (Failed)" in out
    assert "7 MPIJob(s) of pipeline steps, 4 without one" in out


def test_a_dry_run_deletes_nothing(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(idle_operator)
    name = add_job(cluster, "step", None)
    assert run_reaper(monkeypatch, "--dry-run") == 0
    assert cluster.deletions == []
    assert f"would delete MPIJob {name}" in capsys.readouterr().out


def test_a_job_that_a_new_attempt_has_adopted_meanwhile_stays(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(idle_operator)
    name = add_job(cluster, "step", "Failed")
    look_at_pods = cluster._get_pods

    def adopted_meanwhile(*arguments: object) -> object:
        cluster.jobs[name]["metadata"]["resourceVersion"] = "2"
        return look_at_pods(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster, "_get_pods", adopted_meanwhile)
    assert run_reaper(monkeypatch) == 0
    assert list(cluster.jobs) == [name]
    assert f"left, changed: MPIJob {name}" in capsys.readouterr().out


def test_a_missing_right_ends_with_one_message_and_code_2(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(idle_operator)
    cluster.denied = {"list mpijobs"}
    assert run_reaper(monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: permission denied: this service account may not list")


def test_an_api_server_that_is_not_there_is_given_up(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_cluster(idle_operator).close()
    assert run_reaper(monkeypatch) == 2
    assert "no answer to 'list mpijobs.kubeflow.org' for 1 s" in capsys.readouterr().err
