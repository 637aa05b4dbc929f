"""Tests of the set-up: Makefile, setup/*.sh and the lock file.

The scripts run in a copy of the project with a stand-in for Python that writes down what it is asked to do,
since a real set-up takes minutes; the real one is what ran before these tests.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "setup").glob("*.sh"))
TOOLS = (
    "bash cat chmod cp cut dirname flock ls mkdir mktemp mv nproc rm sed sha256sum sh tail tar touch uname"
)

# Answers the questions about Python, makes an environment whose Python is a copy of itself, writes the calls
# of pip to $CALLS, and fails as pip does where $BROKEN exists.
STAND_IN = """#!/bin/sh
case "$*" in
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >>"$CALLS" ;;
  "-m pip install"*) shift 2; echo "$@" >>"$CALLS"; [ ! -e "$BROKEN" ] ;;
  "-c "*) ;;
  *) echo "not expected: $*" >&2; exit 99 ;;
esac
"""

PACKAGES = ["install -q --no-deps -r requirements.lock", "install -q --no-deps --no-build-isolation -e ."]


class Project:
    """A copy of the project's set-up in `folder`, and what is around it."""

    def __init__(self, around: Path) -> None:
        self.folder, self.around = around / "project", around
        shutil.copytree(ROOT / "setup", self.folder / "setup")
        for name in ("requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder)
        self.bin = around / "bin"
        self.bin.mkdir()
        for name in TOOLS.split():
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.add_tool("python3.11", STAND_IN)

    def add_tool(self, name: str, text: str) -> None:
        """Puts a program on the PATH, which otherwise has what any Debian has, but no compiler."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def cache_wheel(self) -> str:
        """Puts a file where the script looks for a built Horovod, and returns its path."""
        wheel = Path(self.run("horovod.sh", "cache").stdout.strip()) / "horovod-0.28.1-some.whl"
        wheel.parent.mkdir(parents=True)
        wheel.touch()
        return str(wheel)

    def set_up(self, horovod: str = "0") -> subprocess.CompletedProcess[str]:
        return self.run("venv.sh", HOROVOD=horovod)

    def calls(self) -> list[str]:
        """What the stand-in was asked to install since the last question."""
        path = self.around / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.bin),
            "XDG_CACHE_HOME": str(self.around / "cache"),
            "CALLS": str(self.around / "calls"),
            "BROKEN": str(self.around / "broken"),
            **variables,
        }
        command = [self.folder / "setup" / script, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_set_up_makes_the_environment_and_installs_packages_and_horovod(project: Project) -> None:
    wheel = project.cache_wheel()
    done = project.set_up(horovod="1")
    assert done.returncode == 0, done.stderr
    assert project.calls() == ["venv", *PACKAGES, f"install -q --no-deps --force-reinstall {wheel}"]


def test_the_second_set_up_does_nothing_and_says_nothing(project: Project) -> None:
    project.cache_wheel()
    project.set_up(horovod="1")
    project.calls()
    (project.bin / "python3.11").unlink()
    done = project.set_up(horovod="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.calls() == []


def test_horovod_can_come_later_and_the_choice_can_change_back_and_forth(project: Project) -> None:
    project.set_up(horovod="0")
    assert project.calls() == ["venv", *PACKAGES]
    wheel = project.cache_wheel()
    project.set_up(horovod="1")
    assert project.calls() == [f"install -q --no-deps --force-reinstall {wheel}"]
    for choice in ("0", "1", "0"):
        assert project.set_up(choice).returncode == 0
    assert project.calls() == []


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "setup/venv.sh"])
def test_what_the_set_up_depends_on_is_installed_after_a_change(project: Project, changed: str) -> None:
    project.set_up()
    project.calls()
    with (project.folder / changed).open("a") as file:
        file.write("# changed\n")
    project.set_up()
    assert project.calls() == PACKAGES
    project.set_up()
    assert project.calls() == []


def test_a_changed_horovod_patch_is_built_and_installed_again(project: Project) -> None:
    project.cache_wheel()
    project.set_up(horovod="1")
    project.calls()
    with next((project.folder / "setup").glob("*.patch")).open("a") as file:
        file.write("# changed\n")
    done = project.set_up(horovod="1")
    assert done.returncode == 2
    assert "no C++ compiler" in done.stderr
    wheel = project.cache_wheel()
    assert project.set_up(horovod="1").returncode == 0
    assert project.calls() == [f"install -q --no-deps --force-reinstall {wheel}"]


def test_a_failed_install_does_not_look_finished_and_is_made_anew(project: Project) -> None:
    (project.around / "broken").touch()
    assert project.set_up().returncode != 0
    assert project.calls() == ["venv", PACKAGES[0]]
    (project.around / "broken").unlink()
    assert project.set_up().returncode == 0
    assert project.calls() == ["venv", *PACKAGES]


def test_a_failed_update_does_not_look_finished_either(project: Project) -> None:
    project.set_up()
    (project.folder / "requirements.lock").write_text("# other\n")
    (project.around / "broken").touch()
    assert project.set_up().returncode != 0
    (project.around / "broken").unlink()
    project.calls()
    project.set_up()
    assert project.calls() == ["venv", *PACKAGES]


def test_a_failed_update_that_is_taken_back_does_not_look_finished(project: Project) -> None:
    project.set_up()
    lock = (project.folder / "requirements.lock").read_text()
    (project.folder / "requirements.lock").write_text("# other\n")
    (project.around / "broken").touch()
    assert project.set_up().returncode != 0
    (project.around / "broken").unlink()
    (project.folder / "requirements.lock").write_text(lock)
    project.calls()
    project.set_up()
    assert project.calls() == ["venv", *PACKAGES]


def test_a_failed_horovod_leaves_the_packages_alone_and_is_tried_again(project: Project) -> None:
    project.set_up()
    wheel = project.cache_wheel()
    (project.around / "broken").touch()
    assert project.set_up(horovod="1").returncode != 0
    (project.around / "broken").unlink()
    project.calls()
    assert project.set_up(horovod="1").returncode == 0
    assert project.calls() == [f"install -q --no-deps --force-reinstall {wheel}"]


def test_a_moved_project_gets_a_new_environment(project: Project) -> None:
    project.set_up()
    project.calls()
    project.folder = project.folder.rename(project.around / "moved")
    project.set_up()
    assert project.calls() == ["venv", *PACKAGES]


def test_an_activated_environment_does_not_make_itself_anew(project: Project) -> None:
    project.set_up()
    shutil.copy(project.folder / ".venv/bin/python", project.folder / ".venv/bin/python3.11")
    (project.folder / "requirements.lock").write_text("# other\n")
    (project.bin / "python3.11").unlink()
    done = project.run("venv.sh", HOROVOD="0", PATH=f"{project.folder}/.venv/bin:{project.bin}")
    assert "python3.11 not found" in done.stderr


def test_a_missing_python_is_told_in_one_message(project: Project) -> None:
    (project.bin / "python3.11").unlink()
    done = project.set_up()
    assert done.returncode == 2
    assert "python3.11 not found" in done.stderr
    assert "apt-get install python3.11" in done.stderr
    assert not (project.folder / ".venv").exists()


@pytest.mark.parametrize(
    ("question", "message"),
    [("version_info", "is not Python 3.11"), ("ensurepip", "apt-get install python3.11-venv")],
)
def test_a_python_that_will_not_do_is_told_in_one_message(
    project: Project, question: str, message: str
) -> None:
    project.add_tool("python3.11", f'#!/bin/sh\ncase "$*" in *{question}*) exit 1 ;; esac\n')
    done = project.set_up()
    assert done.returncode == 2
    assert message in done.stderr
    assert not (project.folder / ".venv").exists()


@pytest.mark.parametrize("missing", ["g++", "make", "Python.h"])
def test_a_missing_compiler_is_told_before_anything_is_installed(project: Project, missing: str) -> None:
    for name in {"g++", "make"} - {missing}:
        project.add_tool(name, "#!/bin/sh\n")
    if missing == "Python.h":
        project.add_tool("python3.11", '#!/bin/sh\ncase "$*" in *Python.h*) exit 1 ;; esac\n')
    done = project.set_up(horovod="1")
    assert done.returncode == 2
    assert "apt-get install g++ make python3-dev" in done.stderr
    assert "HOROVOD=0" in done.stderr
    assert not (project.folder / ".venv").exists()


def test_make_alone_lists_every_target_with_a_line() -> None:
    listed = make().splitlines()
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    assert [line.split()[1] for line in listed if line.startswith("  make ")] == targets[1].split()
    assert all(len(line.split()) > 3 for line in listed if line.startswith("  make "))


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [((), "2"), (("HOROVOD=0",), "1"), (("WORKERS=4",), "4"), (("HOROVOD=0", "WORKERS=1"), "1")],
)
def test_make_run_starts_as_many_workers_as_asked(arguments: tuple[str, ...], workers: str) -> None:
    assert f"WORKERS={workers} dvc repro" in make("run", "--dry-run", *arguments)


def test_the_build_server_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test\n" in script.read_text()
    commands = make("test", "--dry-run")
    for tool in ("ruff format --check", "ruff check", "mypy", "pytest"):
        assert tool in commands


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_script_is_bash_and_can_be_run(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert os.access(script, os.X_OK)


def test_the_lock_pins_exact_versions_and_names_no_place() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [line for line in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.!]+", line)] == []


def test_the_lock_satisfies_all_that_the_project_asks_for() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(text) for group in groups for text in group]
    assert wanted
    for requirement in wanted:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"


def make(*arguments: str) -> str:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("HOROVOD", "WORKERS")
    }
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
