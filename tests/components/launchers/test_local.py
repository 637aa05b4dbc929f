"""The local launcher and `--expect-workers`, with real trainings in real Horovod processes."""

import importlib.util
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components.launchers import LaunchError, TrainingJob, launcher
from components.launchers.local import LocalLauncher
from tests.horovod_workers import ROOT, plain_environment

TINY = [
    *("data.synthetic.train_images=4", "data.synthetic.val_images=2", "data.synthetic.height=64"),
    *("data.synthetic.width=128", "training.reference_batch=2", "training.iterations=2"),
    *("training.log_interval=1", "tracking.mlflow=false", "model.semantic_channels=[16]"),
    *("model.fpn_channels=16", "model.mask_channels=16"),
]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def upsnet(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upsnet.cli", *arguments],
        cwd=folder,
        env=plain_environment(**ENVIRONMENT),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.yaml and prepared/."""
    folder = tmp_path_factory.mktemp("prepared")
    for arguments in (
        ["configure", *TINY, "--out", "config.yaml"],
        ["prepare", "--config", "config.yaml", "--out", "prepared", "--processes", "1"],
    ):
        done = upsnet(folder, *arguments)
        assert done.returncode == 0, done.stderr
    return folder


def train_command(prepared: Path, out: Path) -> tuple[str, ...]:
    inputs = ("--config", str(prepared / "config.yaml"), "--data", str(prepared / "prepared"))
    return ("upsnet", "train", *inputs, "--out", str(out))


def python(code: str, timeout_s: int = 60) -> TrainingJob:
    """A job that is a small program; the launcher adds `--expect-workers 1`."""
    return TrainingJob(name="program", command=(sys.executable, "-c", code), timeout_s=timeout_s)


@pytest.fixture
def _horovod() -> None:
    if (
        importlib.util.find_spec("horovod") is None
        or not Path(sys.executable).with_name("horovodrun").exists()
    ):
        pytest.skip("Horovod is not installed (HOROVOD=0)")


@pytest.mark.slow
@pytest.mark.usefixtures("_horovod")
def test_two_workers_train(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = train_command(prepared, tmp_path)
    job = TrainingJob(name="mini", command=command, workers=2, environment=ENVIRONMENT)
    launcher("local").run(job)
    assert "newest checkpoint: " in capsys.readouterr().out
    assert list((tmp_path / "checkpoints").iterdir())


@pytest.mark.usefixtures("_horovod")
def test_a_wrong_number_of_workers_is_refused_with_one_message(prepared: Path, tmp_path: Path) -> None:
    _, *arguments = train_command(prepared, tmp_path)
    done = upsnet(prepared, *arguments, "--workers", "2", "--expect-workers", "3")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "--expect-workers 3: found 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "checkpoints").exists()


def test_a_plain_process_is_refused_where_several_are_expected(prepared: Path, tmp_path: Path) -> None:
    _, *arguments = train_command(prepared, tmp_path)
    done = upsnet(prepared, *arguments, "--expect-workers", "2")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: --expect-workers 2: found 1")


def test_the_message_of_a_refused_input_comes_with_the_failure(tmp_path: Path) -> None:
    command = ("upsnet", "train", "--config", str(tmp_path / "no.yaml"), "--data", "x", "--out", "y")
    with pytest.raises(LaunchError, match=r"no\.yaml") as raised:
        LocalLauncher().run(TrainingJob(name="mini", command=command, environment=ENVIRONMENT))
    assert raised.value.exit_code == 2
    assert raised.value.log_tail.count("error: ") == 1


def test_what_the_training_prints_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    LocalLauncher().run(python("import sys; print(sys.argv[1:]); print('to stderr', file=sys.stderr)"))
    assert sorted(capsys.readouterr().out.splitlines()) == ["['--expect-workers', '1']", "to stderr"]


def test_a_failure_has_exit_code_and_the_end_of_the_output() -> None:
    with pytest.raises(
        LaunchError, match=r"failed with exit code 7; the log ended with:\n  line 99$"
    ) as raised:
        LocalLauncher().run(python("print('line 99', flush=True); import os; os._exit(7)"))
    assert raised.value.exit_code == 7


def test_a_training_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(LaunchError, match="not done after 2 s"):
        LocalLauncher().run(python(code, timeout_s=2))
    if (tmp_path / "pid").exists():  # on a slow machine it may have had no time to begin
        assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_training_that_ignores_sigterm_is_killed() -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    with pytest.raises(LaunchError, match="not done after 3 s"):
        LocalLauncher(stop_s=1).run(python(code, timeout_s=3))


def test_sigterm_is_passed_on_and_ends_the_step(tmp_path: Path) -> None:
    program = (
        "from components.launchers import TrainingJob, launcher; import sys\n"
        "code = \"import time; print('training', flush=True); time.sleep(600)\"\n"
        "launcher('local').run(TrainingJob(name='x', command=(sys.executable, '-c', code)))\n"
    )
    step = subprocess.Popen(
        [sys.executable, "-c", program],
        env=plain_environment(**ENVIRONMENT),
        stdout=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(60, step.kill)
    guard.start()
    assert step.stdout is not None
    assert step.stdout.readline() == "training\n"
    step.send_signal(signal.SIGTERM)
    assert step.wait(60) == 143
    assert step.stdout.read() == ""  # nobody holds it open any more
    guard.cancel()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(LaunchError, match="expected 'local' or 'mpijob'"):
        launcher("cloud")  # type: ignore[arg-type]
