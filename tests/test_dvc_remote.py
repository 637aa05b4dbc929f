"""Tests of `make data-push` and `make data-pull`: others pull what one machine prepared, from real S3."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dvc_pipeline import TINY, Clone, GitPipeline
from tests.storage.servers import BUCKET, rclone_server
from upsnet.data.dvc_lock import locked_data
from upsnet.data.shards import PreparedData

ADDRESS = f"s3://{BUCKET}/dvc"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which programs use a server."""
    with rclone_server(tmp_path_factory.mktemp("s3")) as started:
        yield {**started.variables(), "AWS_CONFIG_FILE": "/nowhere"}  # DVC refuses /dev/null


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> GitPipeline:
    """A machine that prepared data, committed dvc.lock and pushed to a bucket."""
    made = GitPipeline(tmp_path_factory.mktemp("machines") / "first")
    made.dvc("remote", "add", "-d", "storage", ADDRESS)
    assert made.repro("prepare") == ["configure", "prepare"]
    made.commit("prepared data")
    done = remote(made, "push", **s3)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture
def second(tmp_path: Path, first: GitPipeline) -> Clone:
    return Clone(tmp_path / "second", first)


def remote(project: GitPipeline, verb: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "upsnet.data.dvc_remote", verb, **variables)


def replace_in_config(project: GitPipeline, old: str, new: str) -> None:
    path = project.folder / ".dvc" / "config"
    path.write_text(path.read_text().replace(old, new))


def test_a_second_machine_pulls_the_data_and_nothing_changed(
    first: GitPipeline, second: Clone, s3: dict[str, str]
) -> None:
    done = remote(second, "pull", **s3)
    assert done.returncode == 0, done.stdout + done.stderr
    there, here = first.folder / "runs" / "prepared", second.folder / "runs" / "prepared"
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {
        p.name: p.read_bytes() for p in there.iterdir()
    }
    assert second.repro("prepare") == []
    assert second.git("status", "--porcelain") == ""
    data, locked = PreparedData(here), locked_data(second.folder)
    assert locked is not None
    assert data.dvc_hash == locked.dvc_hash
    summary = second.run(sys.executable, "-m", "upsnet", "configure", "--summary", *TINY.split()).stdout
    told = f"data_version {data.version} (runs/prepared), data_dvc_hash {locked.dvc_hash} (dvc.lock)"
    assert summary.splitlines()[-1] == f"data: {told}"


def test_without_dvc_lock_the_run_cache_knows_what_the_same_inputs_gave(
    second: Clone, s3: dict[str, str]
) -> None:
    (second.folder / "dvc.lock").unlink()
    done = second.run(sys.executable, "-m", "dvc", "repro", "--pull", "prepare", **s3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Running stage" not in done.stdout
    assert second.git("status", "--porcelain") == ""  # the same dvc.lock again


@pytest.mark.parametrize(
    ("verb", "variables", "message"),
    [
        ("push", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the DVC remote refuses these credentials; see AWS_A"),
        ("pull", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the DVC remote refuses these credentials; see AWS_A"),
        (
            "pull",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "there are no credentials for the DVC remote; set AWS_ACCESS_KEY_ID",
        ),
        ("pull", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "does not answer; see AWS_ENDPOINT_URL"),
    ],
)
def test_what_is_wrong_with_the_way_to_the_remote_is_one_message(
    first: GitPipeline,
    second: Clone,
    s3: dict[str, str],
    verb: str,
    variables: dict[str, str],
    message: str,
) -> None:
    project = first if verb == "push" else second
    done = remote(project, verb, **{**s3, **variables})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_a_missing_bucket_is_named_as_such(second: Clone, s3: dict[str, str]) -> None:
    replace_in_config(second, ADDRESS, "s3://no-such-bucket/dvc")
    done = remote(second, "pull", **s3)
    assert done.returncode == 2
    assert "the DVC remote's bucket does not exist; make it" in done.stderr


def test_a_remote_that_lacks_the_data_says_where_to_get_them(second: Clone, tmp_path: Path) -> None:
    replace_in_config(second, ADDRESS, str(tmp_path / "empty"))
    done = remote(second, "pull")
    assert done.returncode == 2
    assert "lacks some of what dvc.lock names; 'make data-push'" in done.stderr


def test_without_a_remote_the_message_says_how_to_name_one(second: Clone) -> None:
    replace_in_config(second, "remote = storage", "")
    for verb in ("push", "pull"):
        done = remote(second, verb)
        assert done.returncode == 2
        assert "no DVC remote is configured; name one: 'dvc remote add -d storage s3://" in done.stderr


def test_without_dvc_lock_there_is_nothing_to_push_or_pull(second: Clone) -> None:
    (second.folder / "dvc.lock").unlink()
    assert "run 'make run' first" in remote(second, "push").stderr
    assert "take it from git" in remote(second, "pull").stderr
