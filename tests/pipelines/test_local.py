"""The ablation pipeline end to end on this machine, with real Horovod processes where there are any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from pipelines import local
from tests.components.tiny import TINY
from tests.pipelines.running import run_command
from upsnet.tracking import PARENT_TAG, read_runs

ROOT = Path(__file__).resolve().parents[2]
WORKERS = "2" if Path(sys.executable).with_name("horovodrun").exists() else "1"


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_an_ablation_trains_compares_and_registers_also_when_a_variant_fails(tmp_path: Path) -> None:
    overrides = [part for override in TINY for part in ("--override", override)]
    (tmp_path / "broken.yaml").write_text("model:\n  weights: gone.pth\n")
    variants = ["--variants", "upsnet,upsnet_c,broken.yaml"]
    command = [sys.executable, "-m", "pipelines.local", *overrides, *variants, "--workers", WORKERS]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    end = done.stdout[-3000:]
    for part in ("Variants of this run", "upsnet_c", "best PQ", "failed: training broken", "mini+broken"):
        assert part in end
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runs = read_runs("upsnet")
    (parent,) = [found for found in runs if found["tags"]["kind"] == "ablation"]
    children = [found for found in runs if found["tags"].get(PARENT_TAG) == parent["run_id"]]
    assert {found["name"] for found in children} == {"mini+upsnet", "mini+upsnet_c", "mini+broken"}
    assert len(runs) == 4
    assert {found["tags"]["workers"] for found in children if "PQ" in found["metrics"]} == {WORKERS}


def test_a_wrong_variant_is_refused_before_any_step_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_command(local.app, "--variants", "upsnet_d")
    assert result.code == 2
    assert "upsnet_d" in result.err
    assert list(tmp_path.iterdir()) == []
