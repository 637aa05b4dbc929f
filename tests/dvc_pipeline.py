"""A copy of the project without git in which DVC runs, for the tests of the pipelines."""

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
    """A copy of the project, and the program and DVC on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("upsnet", "configs", "ablation"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder)
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
        (folder / "bin").mkdir()
        program = folder / "bin" / "upsnet"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upsnet.cli "$@"\n')
        program.chmod(0o755)
        self.choose(TINY)
        self.dvc("config", "--local", "core.no_scm", "true")

    def choose(self, overrides: str, variant: str = "") -> None:
        values = {"preset": "mini", "variant": variant, "overrides": overrides}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def repro(self, *targets: str, workers: str = "1") -> list[str]:
        """Brings the stages up to date and returns those that ran."""
        return re.findall(r"Running stage '(.+)'", self.dvc("repro", *targets, workers=workers))

    def dvc(self, *arguments: str, workers: str = "1") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env={**self.environment(), "WORKERS": workers},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**inherited, "PATH": path, "PYTHONPATH": str(self.folder)}

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())
