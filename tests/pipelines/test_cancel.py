"""`python -m pipelines.cancel` over real HTTP: the run ends, and its MPIJobs go with it."""

from pathlib import Path

import pytest

from pipelines.cancel import app
from tests.pipelines.running import Ended, run_command, write_kubeconfig
from tests.pipelines.servers import MPIJOBS, KfpServer, KubernetesServer, mpijob

RUN_ID = KfpServer.RUN_ID
OTHER = "00000000-5c6d-4e7f-8a9b-0c1d2e3f4a5b"


def cancel(*arguments: object) -> Ended:
    return run_command(app, *arguments, "--interval", "0.01", "--timeout", "5")


@pytest.fixture
def running(kfp: KfpServer) -> KfpServer:
    """Kubeflow Pipelines with a run that is running."""
    kfp.runs[RUN_ID] = {"state": "RUNNING", "display_name": "training"}
    return kfp


def names(api: KubernetesServer) -> list[str]:
    return [job["metadata"]["name"] for job in api.mpijobs["upsnet"]]


def deletions(api: KubernetesServer) -> list[str]:
    return [request.path for request in api.requests if request.method == "DELETE"]


def test_the_run_ends_and_its_mpijobs_alone_are_removed(running, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = [
        mpijob("upsnet-a", RUN_ID),
        mpijob("upsnet-b", RUN_ID, label=True),
        mpijob("upsnet-c", OTHER),
        {"kind": "MPIJob", "metadata": {"name": "somebody's"}},
    ]
    ended = cancel(RUN_ID)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"run {RUN_ID}: ended (canceled)",
        "MPIJob upsnet-a: told to end, its pods first",
        "MPIJob upsnet-b: told to end, its pods first",
        "MPIJob upsnet-a: removed",
        "MPIJob upsnet-b: removed",
    ]
    assert names(kubernetes_api) == ["upsnet-c", "somebody's"]


def test_the_run_ends_before_its_mpijobs_do(running, kubernetes_api: KubernetesServer) -> None:
    states = []
    kubernetes_api.before = lambda request: states.append(running.runs[RUN_ID]["state"])
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    assert cancel(RUN_ID).code == 0
    assert set(states) == {"CANCELED"}, "a step that still runs could make its MPIJob anew"


def test_an_mpijob_that_appears_late_is_removed_too(running, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]

    def late(request):
        if request.method == "DELETE" and request.path.endswith("upsnet-a"):
            kubernetes_api.mpijobs["upsnet"].append(mpijob("upsnet-late", RUN_ID))

    kubernetes_api.before = late
    ended = cancel(RUN_ID)
    assert ended.code == 0
    assert "MPIJob upsnet-late: removed" in ended.out
    assert names(kubernetes_api) == []


def test_cancelling_again_does_no_harm(running, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    assert cancel(RUN_ID).code == 0
    ended = cancel(RUN_ID)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"run {RUN_ID}: had ended already (canceled)",
        "no MPIJob of this run is in namespace upsnet",
    ]
    assert len(deletions(kubernetes_api)) == 1
    assert len([r for r in running.requests if r.path.endswith(":terminate")]) == 1


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_what_an_ended_run_left_behind_is_removed(kfp, kubernetes_api: KubernetesServer, state: str) -> None:
    kfp.runs[RUN_ID] = {"state": state}
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    ended = cancel(RUN_ID)
    assert ended.code == 0
    assert f"had ended already ({state.lower()})" in ended.out
    assert names(kubernetes_api) == []


def test_a_run_that_is_ending_is_not_told_twice(running: KfpServer, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = []
    running.script = [("CANCELING", {}), ("CANCELING", {}), ("CANCELED", {})]
    ended = cancel(RUN_ID)
    assert ended.code == 0
    assert f"run {RUN_ID}: ended (canceled)" in ended.out
    assert not [r for r in running.requests if r.path.endswith(":terminate")]


def test_a_run_that_ends_by_itself_between_two_questions_is_fine(running, kubernetes_api) -> None:
    kubernetes_api.mpijobs["upsnet"] = []

    def ends(request):
        if request.path.endswith(":terminate"):
            running.runs[RUN_ID]["state"] = "SUCCEEDED"

    running.before = ends
    ended = cancel(RUN_ID)
    assert (ended.code, ended.err) == (0, "")
    assert f"run {RUN_ID}: ended (succeeded)" in ended.out


def test_mpijobs_of_a_run_that_was_deleted_are_removed(
    kfp: KfpServer, kubernetes_api: KubernetesServer
) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    ended = cancel(RUN_ID)
    assert ended.code == 0
    assert "Kubeflow Pipelines does not know it" in ended.out
    assert names(kubernetes_api) == []


def test_an_id_that_nobody_knows_is_an_error(kfp: KfpServer, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-c", OTHER)]
    ended = cancel(RUN_ID)
    assert ended.code == 2
    assert f"there is neither a run {RUN_ID} nor an MPIJob" in ended.err
    assert names(kubernetes_api) == ["upsnet-c"]


def test_mpijobs_of_another_namespace_are_found_there(running, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs = {"upsnet": [], "kubeflow": [mpijob("upsnet-a", RUN_ID)]}
    assert cancel(RUN_ID, "--namespace", "kubeflow").code == 0
    assert kubernetes_api.mpijobs["kubeflow"] == []


@pytest.mark.parametrize("run_id", ["../../etc", "a b", "", "x:terminate", "-x"])
def test_what_cannot_be_a_run_id_is_refused_before_any_request(kfp, kubernetes_api, run_id: str) -> None:
    ended = run_command(app, "--timeout", "1", "--", run_id)
    assert ended.code == 2
    assert "expected something like" in ended.err
    assert not kfp.requests + kubernetes_api.requests


def test_without_the_right_to_delete_the_message_says_what_is_left(running, kubernetes_api) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    kubernetes_api.forbidden = (f"{MPIJOBS.format('upsnet')}/upsnet-a",)
    ended = cancel(RUN_ID)
    assert ended.code == 2
    assert f"run {RUN_ID}: ended (canceled)" in ended.out
    assert "deleting MPIJob upsnet-a of namespace upsnet: HTTP 403" in ended.err
    assert "kubectl -n upsnet get mpijobs" in ended.err


def test_a_cluster_without_mpi_operator_has_no_mpijob_to_remove(running, kubernetes_api) -> None:
    ended = cancel(RUN_ID)
    assert (ended.code, ended.err) == (0, "")
    assert "no MPIJob of this run" in ended.out


def test_an_mpijob_that_does_not_go_is_named_after_the_time_limit(running, kubernetes_api) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    kubernetes_api.slow = 10**9
    ended = run_command(app, RUN_ID, "--timeout", "0.1", "--interval", "0.01")
    assert ended.code == 2
    assert "still there after 0.1 s: MPIJob upsnet-a" in ended.err


def test_an_api_server_that_restarts_is_waited_for(running, kubernetes_api: KubernetesServer) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    answers = iter([(503, "starting"), (429, "slow down")])
    kubernetes_api.before = lambda request: next(answers, None)
    ended = cancel(RUN_ID)
    assert ended.code == 0
    assert ended.out.count("trying again") == 1
    assert names(kubernetes_api) == []


def test_kubernetes_that_does_not_answer_ends_at_the_time_limit(running, environment, tmp_path: Path) -> None:
    with KubernetesServer() as gone:
        url = gone.url
    environment.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
    ended = run_command(app, RUN_ID, "--timeout", "0.1", "--interval", "0.01")
    assert ended.code == 2
    assert f"Kubernetes at {url} does not answer" in ended.err
    assert "repeat this command" in ended.err
    assert running.runs[RUN_ID]["state"] == "CANCELED"


def test_without_a_kubeconfig_the_run_ends_all_the_same(running, environment, tmp_path: Path) -> None:
    environment.setenv("KUBECONFIG", str(tmp_path / "missing"))
    ended = cancel(RUN_ID)
    assert ended.code == 2
    assert "no Kubernetes cluster is configured" in ended.err
    assert running.runs[RUN_ID]["state"] == "CANCELED"


def test_kubeflow_that_does_not_answer_leaves_the_mpijobs_alone(environment, kubernetes_api) -> None:
    kubernetes_api.mpijobs["upsnet"] = [mpijob("upsnet-a", RUN_ID)]
    with KfpServer() as gone:
        url = gone.url
    ended = cancel(RUN_ID, "--host", url)
    assert ended.code == 2
    assert f"Kubeflow Pipelines at {url} does not answer" in ended.err
    assert not kubernetes_api.requests
