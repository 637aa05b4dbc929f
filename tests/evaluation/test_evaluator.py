"""`evaluate` from prepared data to files, with predictors that need no network."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.predictors import OraclePredictor
from upsnet.config import Config, DataConfig, EvaluationConfig, InferenceConfig, LoaderConfig, SyntheticConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import DataError
from upsnet.evaluation.evaluator import (
    RankShare,
    combine_shares,
    evaluate,
    evaluate_share,
    in_order,
    strip_positions,
)
from upsnet.evaluation.score import score

IMAGES = 6
CONFIG = Config(
    loader=LoaderConfig(processes=0),
    inference=InferenceConfig(short_side=64, long_side=128),
    evaluation=EvaluationConfig(strips=3),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    scenes = SyntheticConfig(train_images=1, val_images=IMAGES, height=96, width=160, seed=4)
    folder = tmp_path_factory.mktemp("evaluator") / "prepared"
    return prepare(DataConfig(synthetic=scenes), folder, processes=1)


def write_truth(data: PreparedData, folder: Path) -> Path:
    """The validation truth as COCO panoptic files."""
    (folder / "truth").mkdir()
    annotations = []
    for position in range(len(data.split("val"))):
        record = data.split("val").read(position)
        (folder / "truth" / f"{record.image_id}.png").write_bytes(record.panoptic_png)
        segments = [
            {"id": s.segment_id, "category_id": s.category_id, "iscrowd": int(s.iscrowd), "area": s.area}
            for s in record.segments
        ]
        annotations.append(
            {"image_id": record.image_id, "file_name": f"{record.image_id}.png", "segments_info": segments}
        )
    values = {"annotations": annotations, "categories": data.categories.to_json()}
    (folder / "truth.json").write_text(json.dumps(values))
    return folder / "truth.json"


def test_the_truth_as_prediction_is_perfect(data: PreparedData) -> None:
    metrics = evaluate(OraclePredictor(data), data, CONFIG)
    for key in ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU"):
        assert metrics[key] == 100, key
    assert metrics["box_AP"] == pytest.approx(100)
    assert metrics["mask_AP"] > 80  # 28 x 28 logits do not hold every pixel
    assert metrics["images"] == IMAGES
    assert metrics["N"] == metrics["N_th"] + metrics["N_st"] > 2


def test_the_metrics_equal_the_score_of_the_written_files(data: PreparedData, tmp_path: Path) -> None:
    metrics = evaluate(OraclePredictor(data, shift=2), data, CONFIG, tmp_path / "out")
    figures = score(write_truth(data, tmp_path), tmp_path / "out" / "predictions.json")
    assert 0 < metrics["PQ"] < 100
    per_class = figures.pop("per_class")
    assert {key: metrics[key] for key in figures} == figures
    for key, expected in per_class.items():
        assert {name: metrics["per_class"][key][name] for name in expected} == expected


def test_predictions_are_complete_coco_panoptic(data: PreparedData, tmp_path: Path) -> None:
    evaluate(OraclePredictor(data, shift=2), data, CONFIG, tmp_path)
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert CategoryTable.from_json(written["categories"], "") == data.categories
    assert len(written["images"]) == len(written["annotations"]) == IMAGES
    for image, annotation in zip(written["images"], written["annotations"], strict=True):
        panoptic_map = decode_panoptic_png(tmp_path / "predictions" / annotation["file_name"])
        assert image["id"] == annotation["image_id"]
        assert (image["height"], image["width"]) == panoptic_map.shape == (96, 160)
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(panoptic_map)) - {0}
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(panoptic_map == segment["id"])
            x, y, width, height = segment["bbox"]
            assert (x, y, x + width - 1, y + height - 1) == (
                columns.min(), rows.min(), columns.max(), rows.max()
            )  # fmt: skip
            assert (segment["area"], segment["iscrowd"]) == (len(rows), 0)
            assert segment["category_id"] in data.categories.class_id_of


def test_metrics_table_and_strips_are_written(data: PreparedData, tmp_path: Path) -> None:
    metrics = evaluate(OraclePredictor(data, shift=2), data, CONFIG, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    with open(tmp_path / "per_class.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(data.categories.names)
    for row in rows:
        figures = metrics["per_class"][row["category_id"]]
        assert row["PQ"] == ("" if figures["PQ"] is None else str(figures["PQ"]))
    ids = data.split("val").image_ids
    expected = {f"{ids[position]}.png" for position in (0, 2, 5)}
    assert {path.name for path in (tmp_path / "strips").iterdir()} == expected
    with Image.open(tmp_path / "strips" / f"{ids[0]}.png") as picture:
        assert picture.width > 3 * 160
        assert picture.height >= 96


def test_a_second_evaluation_replaces_the_first(data: PreparedData, tmp_path: Path) -> None:
    evaluate(OraclePredictor(data), data, CONFIG, tmp_path)
    evaluate(OraclePredictor(data), data, CONFIG, tmp_path, max_images=2)
    assert len(list((tmp_path / "predictions").iterdir())) == 2
    assert len(list((tmp_path / "strips").iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.csv", "metrics.json", "per_class.csv", "predictions", "predictions.json",
        "strips", "summary.json",
    ]  # fmt: skip


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key != "milliseconds"}


def test_the_metrics_do_not_depend_on_how_the_images_are_shared_out(data: PreparedData) -> None:
    def share(positions: range) -> RankShare:
        predictor = OraclePredictor(data, shift=3)
        return evaluate_share(predictor, data, CONFIG, positions, keep=False, strips=set())

    whole = combine_shares([share(range(IMAGES))], data.categories)
    even_and_odd = [share(range(0, IMAGES, 2)), share(range(1, IMAGES, 2))]
    halves = combine_shares(even_and_odd, data.categories)
    empty = combine_shares([share(range(IMAGES)), share(range(0))], data.categories)
    assert 0 < whole["PQ"] < 100
    assert without_times(whole) == without_times(halves) == without_times(empty)
    assert [image.position for image in in_order(even_and_odd)] == list(range(IMAGES))


def test_two_real_workers_write_the_same_files_as_one(data: PreparedData, tmp_path: Path) -> None:
    horovod = pytest.importorskip("horovod.torch", reason="Horovod is not installed", exc_type=ImportError)
    if not hasattr(horovod, "init"):
        pytest.skip("the installed Horovod was built for another version of torch")
    program = [sys.executable, "-m", "tests.evaluation.two_workers", str(data.folder), str(tmp_path / "two")]
    horovodrun = Path(sys.executable).with_name("horovodrun")
    subprocess.run(
        [horovodrun, "--gloo", "-np", "2", *program],
        check=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
    )
    evaluate(OraclePredictor(data, shift=2), data, CONFIG, tmp_path / "one")
    one, two = (
        {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*") if p.is_file()}
        for run in ("one", "two")
    )
    first, second = (json.loads(files.pop(Path("metrics.json"))) for files in (one, two))
    assert without_times(first) == without_times(second)
    first, second = (json.loads(files.pop(Path("summary.json"))) for files in (one, two))
    assert first | {"ms": 0} == second | {"ms": 0}
    assert one == two


def test_only_the_wanted_images_are_predicted(data: PreparedData) -> None:
    predictor = OraclePredictor(data)
    assert evaluate(predictor, data, CONFIG, max_images=2)["images"] == 2
    assert tuple(predictor.predicted) == data.split("val").image_ids[:2]
    limited = CONFIG.model_copy(update={"evaluation": EvaluationConfig(max_images=3)})
    assert evaluate(OraclePredictor(data), data, limited)["images"] == 3
    assert evaluate(OraclePredictor(data), data, limited, max_images=0)["images"] == IMAGES


def test_the_first_image_does_not_count_for_the_run_time(data: PreparedData) -> None:
    # The predictor claims 3, 4, 5 ms for its first three images.
    three = evaluate(OraclePredictor(data), data, CONFIG, max_images=3)["milliseconds"]
    assert three == {"network": 4.5, "postprocessing": 1.0, "total": 5.5}
    alone = evaluate(OraclePredictor(data), data, CONFIG, max_images=1)["milliseconds"]
    assert alone == {"network": 3.0, "postprocessing": 1.0, "total": 4.0}


def test_a_model_of_other_categories_is_refused(data: PreparedData) -> None:
    fewer = CategoryTable(data.categories.categories[1:])
    with pytest.raises(DataError, match=f"trained with {len(fewer.categories)} categories"):
        evaluate(OraclePredictor(data), data, CONFIG, table=fewer)
    assert evaluate(OraclePredictor(data), data, CONFIG, max_images=1, table=data.categories)["PQ"] == 100


def test_strips_are_spread_evenly() -> None:
    assert strip_positions(60, 4) == {0, 20, 39, 59}
    assert strip_positions(2, 8) == {0, 1}
    assert strip_positions(5, 1) == {0}
    assert strip_positions(5, 0) == set()
