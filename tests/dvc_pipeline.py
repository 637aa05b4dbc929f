"""Small copies of the project in which DVC runs, without git or as clones of one another."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "data.synthetic.train_images=4 data.synthetic.val_images=3 data.synthetic.height=64 "
    "data.synthetic.width=128 training.reference_batch=4 training.iterations=2 training.log_interval=1 "
    "model.fpn_channels=16 model.mask_channels=16 model.semantic_channels=[16] model.box_head.channels=32"
)
WORKERS = "2" if importlib.util.find_spec("horovod") else "1"


class Pipeline:
    """A copy of the project without git, and this interpreter and DVC on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("upsnet", "configs", "ablation"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, folder)
        (folder / ".dvc").mkdir()
        for name in ("config", ".gitignore"):
            shutil.copy(ROOT / ".dvc" / name, folder / ".dvc")
        self.choose(TINY)
        self._use_scm()

    def _use_scm(self) -> None:
        self.dvc("config", "--local", "core.no_scm", "true")

    def choose(self, overrides: str, variant: str = "") -> None:
        values = {"preset": "mini", "variant": variant, "overrides": overrides}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def repro(self, *targets: str, workers: str = "1") -> list[str]:
        """Brings the stages up to date and returns those that ran."""
        return re.findall(r"Running stage '(.+)'", self.dvc("repro", *targets, workers=workers))

    def dvc(self, *arguments: str, workers: str = "1") -> str:
        done = self.run(sys.executable, "-m", "dvc", *arguments, workers=workers)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *command: str, workers: str = "1", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment(), "WORKERS": workers, **variables},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def environment(self) -> dict[str, str]:
        foreign = ("MLFLOW_", "AWS_", "GIT_", "DVC_", "PYTHONPATH")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        site = {"DVC_SITE_CACHE_DIR": str(self.folder.parent / f"{self.folder.name}.site")}
        return {**inherited, **site, "PATH": path}

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


class GitPipeline(Pipeline):
    """The same in a git repository of its own."""

    def _use_scm(self) -> None:
        self.git("init", "--quiet", "--initial-branch=main")
        self._introduce()
        self.commit("start")

    def _introduce(self) -> None:
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.org")

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")


class Clone(GitPipeline):
    """A clone, as on a second machine: it has what was committed, and nothing of DVC's cache."""

    def __init__(self, folder: Path, origin: GitPipeline) -> None:
        self.folder = folder
        origin.git("clone", "--quiet", str(origin.folder), str(folder))
        self._introduce()
