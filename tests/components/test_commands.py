"""The command lines that components run are those of the real program: an option that changes fails here."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

pytest.importorskip("kfp", reason="kfp is not installed")

from components.commands import evaluate_command, run_command, train_command
from components.launchers import LaunchError, TrainingJob
from components.launchers.local import _command as local_command
from upsnet.cli import app

CONFIG, DATA, OUT = Path("config.yaml"), Path("data"), Path("out")


def parsed(command: Sequence[str]) -> dict[str, Any]:
    """What the program understands of a command line; an unknown option or value is an error."""
    assert command[0] == "upsnet"
    subcommand = typer.main.get_command(app).get_command(None, command[1])
    return subcommand.make_context(command[1], list(command[2:])).params


def test_the_training_s_command_line_is_one_of_the_program() -> None:
    job = TrainingJob("a", train_command(CONFIG, DATA, OUT), workers=2, slots_per_worker=4)
    found = parsed(job.rank_command)
    expected = {"config": "config.yaml", "data": "data", "out": "out", "resume": "auto", "expect_workers": 8}
    assert expected.items() <= found.items()
    assert found["data_dvc_hash"] == ""
    assert parsed(train_command(CONFIG, DATA, OUT, "1f.dir"))["data_dvc_hash"] == "1f.dir"


def test_the_local_launcher_s_command_line_is_one_of_the_program() -> None:
    job = TrainingJob("a", train_command(CONFIG, DATA, OUT), workers=2)
    interpreter, *arguments = local_command(job)
    assert (interpreter, arguments[:2]) == (sys.executable, ["-m", "upsnet.cli"])
    assert parsed(["upsnet", *arguments[2:]])["workers"] == 2


def test_the_evaluation_s_command_line_is_one_of_the_program() -> None:
    found = parsed(evaluate_command(Path("training"), DATA, OUT, 2))
    assert {"checkpoint": "training", "data": "data", "out": "out", "workers": 2}.items() <= found.items()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_command_line_with_an_option_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parsed(["upsnet", command, "--no-such-option", "1"])


def test_a_command_that_fails_says_its_last_lines() -> None:
    with pytest.raises(LaunchError) as error:
        run_command(["upsnet", "report", "nowhere.json"], {"PYTHONPATH": ":".join(sys.path)})
    assert error.value.exit_code == 2
    assert "upsnet report: failed with exit code 2" in str(error.value)
    assert "nowhere.json" in str(error.value)


def test_every_import_in_a_component_s_body_exists() -> None:
    """The bodies are sent to the pods as text, where a wrong import would only be found when they run."""
    from components import compare, configure, evaluate, prepare, register, train

    functions = [
        configure.configure,
        prepare.prepare,
        train.train,
        evaluate.evaluate,
        compare.compare,
        register.register,
    ]
    for component in functions:
        lines = inspect.getsource(component.python_func).splitlines()
        imports = [line.strip() for line in lines if line.strip().startswith(("from ", "import "))]
        assert imports
        for line in imports:
            exec(line, {})
