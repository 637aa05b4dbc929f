import json
import os
import subprocess
import sys

import pytest
import torch

from tests.distributed_program import fixed_images, network, train_steps
from tests.horovod_workers import ROOT, plain_environment, run_workers
from upsnet import distributed


@pytest.fixture(scope="module")
def seen_by_two(tmp_path_factory):
    """What the two ranks of a real Horovod job saw, by rank."""
    out = tmp_path_factory.mktemp("two") / "seen.json"
    finished = run_workers("tests.distributed_program", out)
    assert finished.returncode == 0, finished.stdout
    return json.loads(out.read_text())


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_plain_process_is_alone_and_never_imports_horovod():
    finished = python(
        "import sys, torch\n"
        "from upsnet import distributed as d\n"
        "d.init()\n"
        "print(d.rank(), d.world_size(), d.local_rank(), d.is_main(), d.gather_objects(3), "
        "d.broadcast_object('x'), d.all_reduce_mean(torch.ones(2)).tolist())\n"
        "d.barrier(); d.broadcast_parameters(torch.nn.Linear(1, 1))\n"
        "print(d.limit_threads())\n"
        "print('horovod' in sys.modules)\n"
    )
    assert finished.stdout.splitlines() == ["0 1 0 True [3] x [1.0, 1.0]", "1", "False"], finished.stderr


def test_one_of_several_processes_without_horovod_says_so():
    finished = python(
        "import sys; sys.modules['horovod'] = None\n"
        "from upsnet import distributed\n"
        "from upsnet.errors import UpsnetError\n"
        "try: distributed.init()\n"
        "except UpsnetError as error: print(error)\n",
        HOROVOD_SIZE="2",
    )
    assert "one of 2 processes, but Horovod cannot be imported" in finished.stdout


def test_a_gathered_object_is_the_process_s_own_where_there_is_one():
    assert distributed.gather_objects({"a": 1}) == [{"a": 1}]


def test_the_mean_of_one_process_is_a_copy():
    tensor = torch.ones(2)
    distributed.all_reduce_mean(tensor).zero_()
    assert tensor.tolist() == [1, 1]


def test_threads_are_shared_out_where_the_environment_does_not_name_them(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        assert distributed.limit_threads() == len(os.sched_getaffinity(0))
    finally:
        torch.set_num_threads(before)


def test_two_processes_know_their_places(seen_by_two):
    assert [seen["world_size"] for seen in seen_by_two] == [2, 2]
    assert [seen["local"] for seen in seen_by_two] == [[0, 2], [1, 2]]
    assert [seen["is_main"] for seen in seen_by_two] == [True, False]


def test_two_processes_average_and_leave_the_argument_alone(seen_by_two):
    for seen in seen_by_two:
        assert seen["mean"] == [0.5, 1.0]
        assert seen["argument"]
        assert seen["nan"]


def test_every_process_gets_all_objects_in_rank_order(seen_by_two):
    for seen in seen_by_two:
        assert seen["mixed"] == [{"rank": 0}, [1, "one"]]
        assert seen["large"] == [20_000_000, 20_000_001]
        assert seen["broadcast"] == "from rank 0"


def test_buffers_come_from_rank_0(seen_by_two):
    for seen in seen_by_two:
        assert seen["buffers"] == [[0, 0], 0]


def test_two_processes_with_the_same_image_make_the_same_update_as_one(seen_by_two):
    alone = train_steps(network(5), fixed_images())
    for seen in seen_by_two:
        assert seen["same_image"] == alone


def test_layers_that_only_one_process_uses_stay_the_same_on_both(seen_by_two):
    """Without zero gradients the processes would wait for each other, or drift apart."""
    first, second = (seen["different_layers"] for seen in seen_by_two)
    start = [parameter.flatten().tolist() for parameter in network(5).parameters()]
    assert first == second
    assert all(
        torch.tensor(a).sub(torch.tensor(b)).abs().max() > 1e-3 for a, b in zip(first, start, strict=True)
    )
