"""Tests of the `upsnet` program: its commands on a tiny run, its messages and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_coco import TinyCoco
from tests.evaluation.made_metrics import made_metrics, write_metrics
from upsnet import cli
from upsnet.config import load_config, read_config, to_yaml
from upsnet.data.panoptic_png import decode_panoptic_png

TINY = [
    *("data.synthetic.train_images=4", "data.synthetic.val_images=3", "data.synthetic.height=64"),
    *("data.synthetic.width=128", "training.reference_batch=2", "training.iterations=2"),
    *("training.log_interval=1", "tracking.mlflow=false", "evaluation.strips=1"),
    *("model.fpn_channels=16", "model.mask_channels=16", "model.semantic_channels=[16]"),
]


@dataclass
class Result:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program in this process."""

    def run_program(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["upsnet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Result(code or 0, *capsys.readouterr())

    return run_program


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.yaml, prepared/ and train/ of two iterations, made by the program itself."""
    folder = tmp_path_factory.mktemp("trained")
    for arguments in (
        ["configure", *TINY, "--out", "config.yaml"],
        ["prepare", "--config", "config.yaml", "--out", "prepared"],
        ["train", "--config", "config.yaml", "--data", "prepared", "--out", "train"],
    ):
        command = [sys.executable, "-m", "upsnet.cli", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
    return folder


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parent.parent
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HOME": "/tmp"}


def assert_refused(result: Result, *parts: str) -> None:
    """Exit code 2 and one message, which holds `parts`."""
    assert result.code == 2
    assert result.err.count("error: ") == 1
    assert "Traceback" not in result.err
    for part in parts:
        assert part in result.err


def test_help_lists_every_command_without_importing_torch() -> None:
    program = (
        "import sys, upsnet.cli as cli\n"
        "sys.argv = ['upsnet', '--help']\n"
        "try: cli.main()\n"
        "finally: assert not {'torch', 'mlflow', 'horovod'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    for command in (
        "configure",
        "prepare",
        "train",
        "evaluate",
        "score",
        "predict",
        "report",
        "compare",
        "benchmark",
    ):
        assert f"  {command} " in done.stdout


def test_configure_writes_the_configuration_that_its_arguments_describe(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "config.yaml"
    arguments = ["--preset", "coco_r50", "--variant", "no_unknown+no_roi_loss", "--variant", "", "--out", out]
    assert run("configure", *arguments, "seed=7", "training.steps=[3,5]").code == 0
    expected = load_config("coco_r50", ["no_unknown", "no_roi_loss"], ["seed=7", "training.steps=[3,5]"])
    assert read_config(out) == expected


def test_configure_prints_the_manual(run: Run) -> None:
    result = run("configure", "--help-config")
    assert result.code == 0
    assert "training.losses.panoptic: float" in result.out


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["--preset", "coco_r50"], "46,129,904"),
        (
            [
                *("--preset", "coco_r50", "--stuff", "11", "--things", "8"),
                *("model.semantic_channels=[128,128]", "model.global_context=false"),
            ],
            "44,527,804",
        ),
    ],
)
def test_the_summary_counts_the_parameters_of_the_paper(
    run: Run, arguments: list[str], parameters: str
) -> None:
    *_, total, data = run("configure", "--summary", *arguments).out.splitlines()
    assert total.split()[:2] == ["total", parameters]
    assert data.startswith("data: ")  # which depends on the folder


def test_the_summary_of_the_mini_preset_knows_the_synthetic_classes(run: Run) -> None:
    first = run("configure", "--summary").out.splitlines()[0].split()
    assert (int(first[0]) >= 6, int(first[3]) >= 4) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["configure", "training.iterations=0", "--out", "c.yaml"], ["training.iterations", "given: 0"]),
        (["configure", "--preset", "nothing", "--out", "c.yaml"], ["preset 'nothing'", "mini"]),
        (["configure"], ["--out"]),
        (["prepare", "--config", "none.yaml", "--out", "p"], ["none.yaml", "upsnet configure"]),
        (["train", "--config", "none.yaml", "--data", "p", "--out", "t"], ["none.yaml"]),
        (["evaluate", "--checkpoint", "none.pt", "--data", "p", "--out", "e"], ["p"]),
        (["predict", "a.jpg", "--checkpoint", "none.pt", "--out", "o"], ["none.pt"]),
        (["score", "truth.json", "predictions.json"], ["truth.json"]),
        (["report", "metrics.json"], ["metrics.json"]),
        (["benchmark", "--sizes", "800"], ["--sizes 800", "800x1300"]),
        (["compare", "metrics.json", "--out", "o"], ["metrics.json"]),
        (["compare"], ["no runs found"]),
        (["compare", "."], ["no metrics.json in this folder"]),
        (["compare", "--tables", "11"], ["--tables 11"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_ends_with_one_message_and_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *parts)
    assert list(tmp_path.iterdir()) == []


def test_unprepared_data_are_refused_before_workers_start(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKERS", "2")
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(load_config("mini")))
    result = run("train", "--config", config, "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert_refused(result, "none")


def test_prepare_names_the_faulty_images_and_skip_bad_goes_on(
    run: Run, tmp_path: Path, coco_sample_dir: Path
) -> None:
    annotations = coco_sample_dir / "annotations"
    values = json.loads((annotations / "panoptic_val2017.json").read_text())
    kept = [values["annotations"][0], {**values["annotations"][1], "file_name": "gone.png"}]
    ids = {annotation["image_id"] for annotation in kept}
    values |= {"annotations": kept, "images": [i for i in values["images"] if i["id"] in ids]}
    (tmp_path / "two.json").write_text(json.dumps(values))
    split = (
        f"{{images: {coco_sample_dir}/val2017, annotations: {tmp_path}/two.json, "
        f"masks: {annotations}/panoptic_val2017}}"
    )
    config = tmp_path / "config.yaml"
    run(
        "configure",
        "--preset",
        "coco_sample",
        f"data.coco.train={split}",
        f"data.coco.val={split}",
        "--out",
        config,
    )
    arguments = ["prepare", "--config", config, "--out", tmp_path / "prepared", "--processes", "1"]
    assert_refused(run(*arguments), "gone.png", "--skip-bad")
    assert not (tmp_path / "prepared" / "manifest.json").exists()
    assert run(*arguments, "--skip-bad").code == 0
    assert (tmp_path / "prepared" / "manifest.json").exists()


def test_train_leaves_a_checkpoint_a_log_and_its_curves(trained: Path) -> None:
    lines = (trained / "train" / "log.jsonl").read_text().splitlines()
    curves = (trained / "train" / "curves.csv").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert curves[0].startswith("iteration,loss/total,")
    assert [row.split(",")[0] for row in curves[1:]] == ["1", "2"]
    assert float(curves[1].split(",")[1]) == pytest.approx(json.loads(lines[0])["loss/total"])


def test_a_finished_training_goes_on_or_starts_anew_as_asked(run: Run, trained: Path, tmp_path: Path) -> None:
    arguments = ["train", "--config", trained / "config.yaml", "--data", trained / "prepared"]
    arguments += ["--out", tmp_path, "--resume"]
    run(*arguments, "auto")
    first = (tmp_path / "checkpoints" / "iteration-00000002.pt").stat().st_mtime_ns
    assert "finished already" in run(*arguments, "auto").err
    assert (tmp_path / "checkpoints" / "iteration-00000002.pt").stat().st_mtime_ns == first
    assert "starting anew" in run(*arguments, "unfinished").err
    assert (tmp_path / "checkpoints" / "iteration-00000002.pt").stat().st_mtime_ns != first


def test_evaluate_prints_the_table_that_report_prints_again(run: Run, trained: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", "--checkpoint", trained / "train", "--data", trained / "prepared", "--out", tmp_path
    )
    assert result.code == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images"] == 3
    for word in ("PQ", "mIoU", "box_AP", "mask_AP", "network", "things", "stuff"):
        assert word in result.out
    assert run("report", tmp_path / "metrics.json").out == result.out
    assert len(list((tmp_path / "strips").iterdir())) == 1


def test_evaluate_takes_inference_and_evaluation_from_a_given_config(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    config = tmp_path / "other.yaml"
    overrides = [*TINY, "evaluation.max_images=2", "inference.short_side=32", "model.unknown=false"]
    run("configure", *overrides, "--out", config)
    checkpoint = next((trained / "train" / "checkpoints").glob("*.pt"))
    arguments = ["--checkpoint", checkpoint, "--data", trained / "prepared", "--out", tmp_path / "out"]
    assert run("evaluate", *arguments, "--config", config).code == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images"], metrics["short_side"]) == (2, 32)


def test_score_prints_and_writes_the_expected_figures(
    run: Run, tmp_path: Path, panopticapi_samples_dir: Path
) -> None:
    truth = panopticapi_samples_dir / "panoptic_examples.json"
    folder = panopticapi_samples_dir / "panoptic_examples"
    arguments = [truth, truth, "--truth-dir", folder, "--predictions-dir", folder]
    result = run("score", *arguments, "--json", tmp_path / "deep" / "figures.json", "--processes", "1")
    assert result.code == 0, result.err
    figures = json.loads((tmp_path / "deep" / "figures.json").read_text())
    assert (figures["PQ"], figures["SQ"], figures["RQ"]) == (100, 100, 100)
    assert "100.0" in result.out


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images of every kind that people have."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    image = Image.fromarray(pixels)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    image.save(folder / "rotated.jpg", exif=rotated)
    image.convert("L").save(folder / "same.png")
    image.convert("RGBA").save(folder / "more" / "same.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[:1, :1]).save(folder / "dot.png")
    return folder


def test_predict_writes_overlay_panoptic_png_and_json_of_any_image(
    run: Run, trained: Path, pictures: Path, tmp_path: Path
) -> None:
    images = sorted(pictures.rglob("*.*"))
    out = tmp_path / "out"
    result = run("predict", *images, "--checkpoint", trained / "train", "--out", out, "--device", "cpu")
    assert result.code == 0, result.err
    stems = {"rotated": (60, 40), "same": (40, 60), "same_2": (40, 60), "cmyk": (40, 60), "dot": (1, 1)}
    assert len(list(out.iterdir())) == 3 * len(stems)
    for stem, size in stems.items():
        panoptic_map = decode_panoptic_png(out / f"{stem}.png")
        described = json.loads((out / f"{stem}.json").read_text())
        assert panoptic_map.shape == size
        assert np.asarray(Image.open(out / f"{stem}.overlay.png")).shape == (*size, 3)
        assert described["file_name"] == f"{stem}.png"
        for segment in described["segments_info"]:
            assert segment["area"] == (panoptic_map == segment["id"]).sum()
            assert segment["category"]
        assert {s["id"] for s in described["segments_info"]} == set(np.unique(panoptic_map)) - {0}


def test_predict_names_the_images_it_cannot_read_and_does_the_others(
    run: Run, trained: Path, pictures: Path, tmp_path: Path
) -> None:
    broken = pictures / "broken.jpg"
    broken.write_bytes((pictures / "cmyk.jpg").read_bytes()[:300])
    images = [pictures / "missing.jpg", pictures / "dot.png", broken]
    out = tmp_path / "out"
    result = run("predict", *images, "--checkpoint", trained / "train", "--out", out)
    assert_refused(result, "2 of 3 images", "missing.jpg: cannot be read", "broken.jpg: ")
    assert {path.name for path in out.iterdir()} == {"dot.png", "dot.overlay.png", "dot.json"}


def test_predict_never_writes_over_its_images(run: Run, trained: Path, pictures: Path) -> None:
    before = (pictures / "same.png").read_bytes()
    result = run("predict", pictures / "same.png", "--checkpoint", trained / "train", "--out", pictures)
    assert_refused(result, "same.png would be overwritten", "--out")
    assert (pictures / "same.png").read_bytes() == before


def test_an_unknown_device_is_refused(run: Run, trained: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = [pictures / "dot.png", "--checkpoint", trained / "train", "--out", tmp_path / "out"]
    assert_refused(run("predict", *arguments, "--device", "abacus"), "--device abacus")


def test_benchmark_prints_and_writes_the_table(run: Run, tmp_path: Path) -> None:
    small = ["--preset", "mini", "--sizes", "64x96", "--instances", "2", "--runs", "1", "--device", "cpu"]
    result = run("benchmark", *small, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    figures = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [row["system"] for row in figures["rows"]] == ["UPSNet", "MR-CNN-PSP"]
    assert "| 64x96 | 2 | MR-CNN-PSP |" in (tmp_path / "out" / "benchmark.md").read_text()
    assert "Random weights" in result.out


def test_compare_prints_and_writes_the_tables_of_a_folder_of_runs(run: Run, tmp_path: Path) -> None:
    write_metrics(tmp_path / "runs" / "a", made_metrics("mini", "", 1, PQ=60.0))
    write_metrics(tmp_path / "runs" / "b", made_metrics("mini", "", 2, PQ=62.0))
    result = run("compare", tmp_path / "runs", "--tables", "7", "--out", tmp_path / "out")
    assert result.code == 0
    for part in ("ours, 2 seeds", "61.0 ±1.4", "+18.5", "Table 7 layout, measured on mini", "compare.html"):
        assert part in result.out
    assert "Table 6" not in result.out
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".md", ".csv", ".html"}


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00", '{"PQ": 1}'])
def test_a_file_that_holds_no_metrics_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    for command in ("report", "compare"):
        assert_refused(run(command, tmp_path / "metrics.json"), "metrics.json")


def test_own_data_go_from_folder_to_preset_to_check_to_shards(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco = TinyCoco(tmp_path / "mine")
    coco.config()
    monkeypatch.chdir(tmp_path)
    assert "detector_weights: COCO_V1" in run("configure", "--from-data", "mine").out
    written = run("configure", "--from-data", "mine", "--out", "my_preset.yaml")
    assert (written.code, written.out.splitlines()[0]) == (0, "wrote my_preset.yaml; look it through, then")
    assert run("configure", "--preset", "my_preset.yaml", "--out", "config.yaml").code == 0
    checked = run("prepare", "--config", "config.yaml", "--check", "--processes", 1)
    assert (checked.code, checked.err) == (0, "")
    assert "1 stuff + 1 thing classes" in checked.out
    assert run("prepare", "--config", "config.yaml", "--out", "prepared", "--processes", 1).code == 0
    assert run("configure", "--from-data", "mine", "seed=3").code == 2
    coco.image(2).unlink()
    faulty = run("prepare", "--config", "config.yaml", "--check", "--processes", 1)
    assert faulty.code == 2
    assert "images listed" in faulty.out
    assert "train image 2: image missing: 2.jpg" in faulty.err
    assert "image missing: put the file into the folder of images" in faulty.err


def test_prepare_without_out_says_what_to_give(run: Run, trained: Path) -> None:
    result = run("prepare", "--config", trained / "config.yaml")
    assert (result.code, "give --out FOLDER" in result.err) == (2, True)


def test_the_summary_tells_of_detector_weights_without_fetching_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = run("configure", "--preset", "coco_r50", "--summary", "model.detector_weights=COCO_V1")
    assert result.code == 0
    assert "starting weights: COCO_V1, not on this machine yet" in result.out
    assert run("configure", "--summary", "--preset", "coco_r50", "model.detector_weights=x.pth").code == 2
