"""A real `mlflow models serve` answers real requests; the model lies in a real MLflow over SQLite."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.tiny import tiny_checkpoint
from tests.storage.servers import free_port
from upsnet.config import TrackingConfig
from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.registry import register_checkpoint
from upsnet.tracking import mlflow_client, open_run
from upsnet.tracking.models import model_checkpoint
from upsnet.training.checkpoint import read_checkpoint

pytest.importorskip("mlflow", reason="MLflow is not installed")
WAIT_SECONDS = 240
NAME = "served"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with MLflow and a registered model."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        run = open_run(TrackingConfig(experiment="test"), "training", params={"network": "upsnet"})
        mlflow_client().log_metric(run, "PQ", 50.0, step=0)
        tags = {"data_version": "d1", "images": 60}
        register_checkpoint(NAME, tiny_checkpoint(folder / "c.pt"), run, {"PQ": 50.0}, tags)
        yield folder


@pytest.fixture(scope="module")
def address(work: Path) -> Iterator[str]:
    """Of the server, started as its users do."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    with (work / "serve.txt").open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        until = time.monotonic() + WAIT_SECONDS
        while not answers(port):
            assert server.poll() is None, (work / "serve.txt").read_text()
            assert time.monotonic() < until, (work / "serve.txt").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, body: Any) -> tuple[int, Any]:
    """Status and answer."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def picture(kind: str = "JPEG") -> str:
    """Base64 of a 40 x 60 picture."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def test_a_picture_gets_its_segments_and_a_panoptic_png(address: str) -> None:
    status, answer = ask(address, {"dataframe_records": [{"image": picture()}, {"image": picture("PNG")}]})
    assert status == 200, answer
    first, second = answer["predictions"]
    assert (first["height"], first["width"], second["width"]) == (40, 60, 60)
    assert first["segments"]
    panoptic_map = decode_panoptic_png(base64.b64decode(first["panoptic_png"]))
    ids, areas = np.unique(panoptic_map[panoptic_map > 0], return_counts=True)
    assert {s["segment_id"]: s["area"] for s in first["segments"]} == dict(zip(ids, areas, strict=True))
    expected = {"segment_id", "category_id", "class", "isthing", "area", "bbox"}
    for segment in first["segments"]:
        assert set(segment) == expected | ({"score"} if segment["isthing"] else set())


@pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs"])
def test_a_text_file_gets_a_400_that_says_why_and_does_not_repeat_it(address: str, form: str) -> None:
    text = base64.b64encode(b"Dear Sir or Madam, " * 500).decode()
    status, answer = ask(address, {form: [{"image": text}]})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer["message"] == (
        "image: not a JPEG or PNG image (9500 bytes starting with b'Dear Sir'); "
        "expected the base64 of a JPEG or PNG file"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image": "%%%"}], "neither base64 nor an address"),
        ([{"image": "file:///etc/passwd"}], "may not read that address"),
        ([{"image": None}], "is no text"),
        ([{"picture": "x"}], "missing inputs"),
        ([], "missing inputs"),
    ],
)
def test_what_is_no_request_gets_a_400(address: str, rows: list[Any], message: str) -> None:
    status, answer = ask(address, {"dataframe_records": rows})
    assert status == 400
    assert message in answer["message"]


def test_of_several_pictures_the_bad_one_is_named(address: str) -> None:
    status, answer = ask(address, {"inputs": {"image": [picture(), "AAAA"]}})
    assert status == 400
    assert "row 2 of 2" in answer["message"]


def test_the_model_says_what_it_takes_and_needs_and_has_the_figures_of_its_run(work: Path) -> None:
    import mlflow

    info = mlflow.models.get_model_info(f"models:/{NAME}@champion")
    assert info.signature.inputs.input_names() == ["image"]
    assert info.signature.outputs.input_names() == ["height", "width", "segments", "panoptic_png"]
    logged = mlflow_client().get_logged_model(info.model_id)
    assert {metric.key: metric.value for metric in logged.metrics} == {"PQ": 50.0}
    folder = Path(logged.artifact_location.removeprefix("file://"))
    needed = (folder / "requirements.txt").read_text()
    assert {"torch", "mlflow", "pydantic"} <= {line.partition("==")[0] for line in needed.splitlines()}
    assert (folder / "code/upsnet/model/panoptic_head.py").is_file()
    assert not list(folder.rglob("*.pkl")), "nothing is pickled"
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert list(example) == ["dataframe_split"]


def test_the_stored_checkpoint_is_the_trained_one_without_its_optimizer(work: Path) -> None:
    stored = read_checkpoint(model_checkpoint(f"models:/{NAME}@champion", work / "cache"))
    given = read_checkpoint(work / "c.pt")
    assert set(given) - set(stored) == {"optimizer"}
    assert all(stored["model"][name].equal(given["model"][name]) for name in given["model"])
