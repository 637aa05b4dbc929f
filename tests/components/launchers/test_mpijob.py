"""The mpijob launcher against an API server of the tests' own; after each test no MPIJob is left."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.launchers import LaunchError, TrainingJob
from components.launchers.manifest import build_manifest
from components.launchers.mpijob import MpiJobLauncher
from components.launchers.naming import OWNER_POD, RUN_ID
from tests.components.launchers.cluster_server import ClusterServer, Operator, idle_operator
from tests.components.launchers.conftest import QUICK, STEP, StartCluster
from tests.components.launchers.jobs import small_job

LINES = [f"iteration {number}  loss 1.{number}" for number in range(8)]


def train_well(cluster: ClusterServer, name: str) -> Iterator[None]:
    """An operator with whom everything goes well."""
    cluster.set_condition(name, "Created")
    cluster.add_pod(name, "worker", f"{name}-worker-0", {"waiting": {"reason": "ContainerCreating"}})
    yield
    cluster.start_workers(name)
    pod = cluster.start_launcher(name, "aaaaa")
    cluster.set_condition(name, "Running")
    cluster.write(pod, *LINES[:3])
    yield
    cluster.write(pod, *LINES[3:])
    yield
    cluster.end_pod(pod, 0)
    cluster.set_condition(name, "Succeeded")
    yield


def train_badly(exit_code: int, reason: str = "") -> Operator:
    """An operator whose launcher pod ends with an exit code, after which the job has failed."""

    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.set_condition(name, "Created")
        cluster.start_workers(name)
        pod = cluster.start_launcher(name, "aaaaa")
        yield
        cluster.write(pod, "iteration 1", "CUDA out of memory")
        cluster.end_pod(pod, exit_code, reason)
        yield
        cluster.set_condition(name, "Failed", "BackoffLimitExceeded", "Job has reached the backoff limit")
        yield

    return operator


def launch(job: TrainingJob | None = None, environ: dict[str, str] | None = None) -> None:
    MpiJobLauncher(QUICK, STEP if environ is None else environ).run(job or small_job())


def assert_nothing_is_left(cluster: ClusterServer) -> None:
    assert cluster.jobs == {}
    assert cluster.pods == {}
    assert {policy for _, policy in cluster.deletions} <= {"Foreground"}


def failure(job: TrainingJob | None = None) -> LaunchError:
    with pytest.raises(LaunchError) as raised:
        launch(job)
    return raised.value


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "components")


def test_a_training_that_succeeds_shows_its_log_and_leaves_nothing(
    start_cluster: StartCluster, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = start_cluster(train_well)
    launch()
    assert capsys.readouterr().out.splitlines() == LINES
    assert "running, 2 of 2 workers ready" in caplog.text
    assert len(cluster.created) == 1
    assert_nothing_is_left(cluster)


def test_only_the_documented_rights_are_used(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    launch()
    jobs = {f"{verb} mpijobs" for verb in ("create", "get", "list", "patch", "delete")}
    assert set(cluster.calls) <= jobs | {"get pods", "list pods", "get pods/log", "list events"}


def test_a_failure_tells_exit_code_reason_and_the_end_of_the_log(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_badly(137, "OOMKilled"))
    error = failure()
    assert error.exit_code == 137
    assert error.log_tail.splitlines() == ["iteration 1", "CUDA out of memory"]
    for part in ("BackoffLimitExceeded", "exit code 137 (OOMKilled)", "CUDA out of memory"):
        assert part in str(error)
    assert_nothing_is_left(cluster)


def test_a_refused_input_is_not_tried_again(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.start_workers(name)
        pod = cluster.start_launcher(name, "aaaaa")
        cluster.write(pod, "error: --expect-workers 2: found 1")
        cluster.end_pod(pod, 2)
        yield

    cluster = start_cluster(operator)
    error = failure()
    assert error.exit_code == 2
    assert "refused its input" in str(error)
    assert "error: --expect-workers 2: found 1" in str(error)
    assert_nothing_is_left(cluster)


def test_a_worker_without_memory_is_named(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        for step in train_badly(1)(cluster, name):
            worker = cluster.pods[f"{name}-worker-1"]["status"]["containerStatuses"][0]
            worker["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
            yield step

    cluster = start_cluster(operator)
    assert "-worker-1: OOMKilled (137)" in str(failure())
    assert_nothing_is_left(cluster)


def test_another_attempt_is_a_new_pod_whose_log_follows(
    start_cluster: StartCluster, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.set_condition(name, "Created")
        cluster.start_workers(name)
        first = cluster.start_launcher(name, "aaaaa")
        cluster.write(first, "first attempt")
        yield
        cluster.end_pod(first, 1)
        yield
        second = cluster.start_launcher(name, "bbbbb")
        cluster.write(second, "second attempt")
        yield
        cluster.end_pod(second, 0)
        cluster.set_condition(name, "Succeeded")
        yield

    cluster = start_cluster(operator)
    launch()
    assert capsys.readouterr().out.splitlines() == ["first attempt", "second attempt"]
    assert "(attempt 2)" in caplog.text
    assert "the launcher ended with 1" in caplog.text
    assert_nothing_is_left(cluster)


def test_a_new_attempt_of_the_step_adopts_the_running_job(
    start_cluster: StartCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(train_well)
    former = {"KFP_POD_NAME": "training-x7f-train-0", "KFP_POD_UID": "uid-of-the-former-step"}
    job = cluster.put(build_manifest(small_job(), QUICK, former))
    launch()
    assert cluster.created == []
    assert "patch mpijobs" in cluster.calls
    assert job["metadata"]["labels"][OWNER_POD] == STEP["KFP_POD_NAME"]
    assert [owner["uid"] for owner in job["metadata"]["ownerReferences"]] == [STEP["KFP_POD_UID"]]
    assert capsys.readouterr().out.splitlines() == LINES
    assert_nothing_is_left(cluster)


def test_a_job_that_may_not_be_adopted_is_replaced(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    cluster.denied = {"patch mpijobs"}
    former = {"KFP_POD_NAME": "training-x7f-train-0", "KFP_POD_UID": "uid-of-the-former-step"}
    cluster.put(build_manifest(small_job(), QUICK, former))
    launch()
    assert len(cluster.created) == 1
    assert_nothing_is_left(cluster)


def test_a_creation_whose_answer_was_lost_is_adopted_without_a_change(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    cluster.put(build_manifest(small_job(), QUICK, STEP))
    launch()
    assert "patch mpijobs" not in cluster.calls
    assert_nothing_is_left(cluster)


def test_a_job_that_failed_in_an_earlier_attempt_is_replaced(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    old = cluster.put(build_manifest(small_job(), QUICK, STEP))
    cluster.set_condition(old["metadata"]["name"], "Failed")
    launch()
    assert len(cluster.created) == 1
    assert_nothing_is_left(cluster)


def test_a_job_that_is_being_deleted_is_waited_for_and_replaced(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    cluster.put(build_manifest(small_job(), QUICK, STEP), deletionTimestamp="2026-01-01T00:00:00Z")
    launch()
    assert len(cluster.created) == 1
    assert_nothing_is_left(cluster)


def test_a_job_of_another_run_is_left_alone(start_cluster: StartCluster) -> None:
    cluster = start_cluster(train_well)
    theirs = build_manifest(small_job(), QUICK, STEP)
    theirs["metadata"]["annotations"][RUN_ID] = "another run"
    cluster.put(theirs)
    assert "was not made for this run" in str(failure())
    assert list(cluster.jobs) == [theirs["metadata"]["name"]]
    assert cluster.deletions == []


def test_an_unschedulable_worker_gives_the_scheduler_s_words_and_ends_after_the_start_timeout(
    start_cluster: StartCluster, caplog: pytest.LogCaptureFixture
) -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."

    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.set_condition(name, "Created")
        for index in range(2):
            pod = cluster.add_pod(name, "worker", f"{name}-worker-{index}", {})
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            cluster.pods[pod]["status"]["conditions"].append({**unscheduled, "message": message})
        yield

    cluster = start_cluster(operator)
    error = failure(small_job(start_timeout_s=1))
    assert "no ranks ran for 1 s" in str(error)
    assert f"-worker-0 and 1 more: Unschedulable: {message}" in str(error)
    assert message in caplog.text
    assert error.exit_code is None
    assert_nothing_is_left(cluster)


def test_an_image_that_cannot_be_pulled_is_named(start_cluster: StartCluster) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "upsnet:0.1.0"'}

    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.set_condition(name, "Created")
        cluster.add_pod(name, "worker", f"{name}-worker-0", {"waiting": waiting})
        yield

    cluster = start_cluster(operator)
    error = failure(small_job(start_timeout_s=1))
    assert "ImagePullBackOff: Back-off pulling image" in str(error)
    assert_nothing_is_left(cluster)


def test_a_validation_event_ends_the_wait_at_once(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        uid = cluster.jobs[name]["metadata"]["uid"]
        cluster.warn(name, "ValidationError", "of a former job", uid="another")
        cluster.warn(name, "ValidationError", "spec.runPolicy.cleanPodPolicy: Unsupported value", uid=uid)
        yield

    cluster = start_cluster(operator)
    error = failure(small_job(start_timeout_s=3600))
    assert "the operator refuses it: spec.runPolicy.cleanPodPolicy: Unsupported value" in str(error)
    assert_nothing_is_left(cluster)


def test_a_quota_that_is_used_up_is_told_from_the_event(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.set_condition(name, "Created")
        cluster.warn(name, "FailedCreate", "of a former job", when="2025-01-01T00:00:00Z")
        cluster.warn("another-launcher", "FailedCreate", "of another job")
        cluster.warn(f"{name}-launcher", "FailedCreate", "exceeded quota: gpus, used: 8, limited: 8")
        yield

    cluster = start_cluster(operator)
    error = failure(small_job(start_timeout_s=1))
    assert "FailedCreate: exceeded quota: gpus, used: 8, limited: 8" in str(error)
    assert "former" not in str(error)
    assert "another job" not in str(error)
    assert_nothing_is_left(cluster)


def test_a_job_that_no_operator_takes_up_is_told_so(start_cluster: StartCluster) -> None:
    cluster = start_cluster(idle_operator)
    assert "does mpi-operator run" in str(failure(small_job(start_timeout_s=1)))
    assert_nothing_is_left(cluster)


def test_a_training_that_takes_too_long_is_ended(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.start_workers(name)
        cluster.write(cluster.start_launcher(name, "aaaaa"), "iteration 1")
        yield

    cluster = start_cluster(operator)
    assert "not done after 1 s" in str(failure(small_job(timeout_s=1)))
    assert_nothing_is_left(cluster)


def test_a_job_that_somebody_deletes_is_an_error(start_cluster: StartCluster) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        yield
        del cluster.jobs[name]
        cluster.pods.clear()
        yield

    cluster = start_cluster(operator)
    assert "deleted by somebody else" in str(failure())
    assert_nothing_is_left(cluster)


@pytest.mark.parametrize(
    "call", ["create mpijobs", "get mpijobs", "list pods", "get pods/log", "list events", "delete mpijobs"]
)
def test_a_missing_right_is_told_once(
    start_cluster: StartCluster, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    cluster = start_cluster(train_well)
    cluster.denied = {call}
    verb, resource = call.split()
    if call == "delete mpijobs":  # the training itself went well, and is not lost
        launch()
        assert "left behind: permission denied: this service account may not delete" in caplog.text
        return
    if call == "get pods/log":
        launch()
        assert caplog.text.count("permission denied") == 1
    else:
        error = failure()
        assert f"permission denied: this service account may not {verb} {resource}" in str(error)
        assert "permission denied" not in caplog.text
    if call == "get mpijobs":  # it is deleted unseen
        assert all("deletionTimestamp" in job["metadata"] for job in cluster.jobs.values())
        cluster.jobs.clear()
    assert_nothing_is_left(cluster)


def test_an_account_without_any_right_gets_one_message(
    start_cluster: StartCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = start_cluster(train_well)
    cluster.denied = {f"{verb} mpijobs" for verb in ("create", "get", "list", "patch", "delete")}
    assert "may not create mpijobs.kubeflow.org in namespace upsnet" in str(failure())
    assert caplog.text == ""
    assert_nothing_is_left(cluster)


def test_an_api_server_that_restarts_is_waited_for(
    start_cluster: StartCluster, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        cluster.start_workers(name)
        pod = cluster.start_launcher(name, "aaaaa")
        cluster.write(pod, *LINES[:4])
        yield
        cluster.log_followed.wait(10)
        cluster.go_away(0.3)
        yield
        cluster.write(pod, *LINES[4:])
        cluster.end_pod(pod, 0)
        cluster.set_condition(name, "Succeeded")
        yield

    cluster = start_cluster(operator)
    launch()
    assert "asking again" in caplog.text
    assert capsys.readouterr().out.splitlines() == LINES
    assert_nothing_is_left(cluster)


def test_an_api_server_that_stays_away_is_given_up(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start_cluster(idle_operator)
    cluster.close()
    with pytest.raises(LaunchError, match=r"no answer to 'create mpijobs.kubeflow.org' for 0.3 s"):
        MpiJobLauncher(replace(QUICK, api_patience_s=0.3), STEP).run(small_job())


def test_a_log_stream_that_is_cut_goes_on_without_repeating_lines(
    start_cluster: StartCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start_cluster(train_well)
    cluster.cuts = [10, 130, -60, -222, 0, 1, 333]  # in the middle of lines, and between two of the same time
    launch()
    assert cluster.cuts == []
    assert capsys.readouterr().out.splitlines() == LINES
    assert_nothing_is_left(cluster)
