"""`score` on files: the expected figures on the official samples, number of processes, every refusal."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference import panoptic_quality as oracle
from upsnet.data.panoptic_png import decode_panoptic_png, encode_panoptic_png
from upsnet.errors import DataError
from upsnet.evaluation.score import score

Change = Callable[[np.ndarray], np.ndarray]


def shift(rows: int, columns: int) -> Change:
    def shifted(panoptic_map: np.ndarray) -> np.ndarray:
        result = np.zeros_like(panoptic_map)
        result[rows:, columns:] = panoptic_map[:-rows, :-columns]
        return result

    return shifted


def without_small(panoptic_map: np.ndarray) -> np.ndarray:
    ids, counts = np.unique(panoptic_map, return_counts=True)
    return np.where(np.isin(panoptic_map, ids[counts < 1000]), 0, panoptic_map)


def predict_from_truth(truth_json: Path, out: Path, change: Change) -> Path:
    """Writes predictions made by changing the truth's maps; their JSON has only what is needed."""
    out.with_suffix("").mkdir()
    annotations = []
    for annotation in json.loads(truth_json.read_text())["annotations"]:
        name = annotation["file_name"]
        changed = change(decode_panoptic_png(truth_json.with_suffix("") / name))
        (out.with_suffix("") / name).write_bytes(encode_panoptic_png(changed))
        left = set(np.unique(changed).tolist())
        segments = [
            {"id": s["id"], "category_id": s["category_id"]}
            for s in annotation["segments_info"]
            if s["id"] in left
        ]
        annotations.append({"image_id": annotation["image_id"], "file_name": name, "segments_info": segments})
    out.write_text(json.dumps({"annotations": annotations}))
    return out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda panoptic_map: panoptic_map, (100, 100, 100)),
        (shift(3, 5), (58.412775, 64.870261, 77.666084)),
        (shift(10, 10), (24.556043, 40.178112, 34.404305)),
        (without_small, (83.977273, 87.5, 83.977273)),
    ],
    ids=["equal", "shifted 3 and 5", "shifted 10 and 10", "without small segments"],
)
def test_the_official_samples_give_the_expected_figures(
    panopticapi_samples_dir: Path, tmp_path: Path, change: Change, expected: tuple[float, ...]
) -> None:
    truth = panopticapi_samples_dir / "panoptic_examples.json"
    figures = score(truth, predict_from_truth(truth, tmp_path / "predictions.json", change))
    assert [figures[k] for k in ("PQ", "SQ", "RQ")] == pytest.approx(expected, abs=5e-7)


def test_real_images_agree_with_the_slow_oracle_and_any_number_of_processes(
    coco_sample_dir: Path, tmp_path: Path
) -> None:
    source = coco_sample_dir / "annotations" / "panoptic_val2017.json"
    values = json.loads(source.read_text())
    values["annotations"] = values["annotations"][:20]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(values))
    (tmp_path / "truth").symlink_to(source.with_suffix(""))
    predictions = predict_from_truth(truth, tmp_path / "predictions.json", shift(7, 4))
    one, three = score(truth, predictions, processes=1), score(truth, predictions, processes=3)
    assert one == three

    guesses = json.loads(predictions.read_text())["annotations"]
    faults = [
        oracle.image_faults(
            decode_panoptic_png(tmp_path / "truth" / true["file_name"]),
            decode_panoptic_png(tmp_path / "predictions" / true["file_name"]),
            true["segments_info"],
            guess["segments_info"],
        )
        for true, guess in zip(values["annotations"], guesses, strict=True)
    ]
    for key, value in oracle.quality(faults, values["categories"]).items():
        assert one[key] == (value if key.startswith("N") else pytest.approx(100 * value)), key


MAPS = {
    1: [[1, 1, 2, 2], [1, 1, 2, 2]],
    2: [[300, 300, 300, 0], [70000, 70000, 0, 0]],
}
CATEGORIES = [{"id": 4, "name": "sky", "isthing": 0}, {"id": 9, "name": "car", "isthing": 1}]


class DataSet:
    """A tiny truth with equal predictions, to be damaged by a test and written to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maps = {kind: {i: np.array(m) for i, m in MAPS.items()} for kind in ("truth", "predictions")}
        annotations = [
            {
                "image_id": image_id,
                "file_name": f"{image_id}.png",
                "segments_info": [
                    {
                        "id": i,
                        "category_id": c,
                        "iscrowd": 0,
                        "area": int((self.maps["truth"][image_id] == i).sum()),
                    }
                    for i, c in segments
                ],
            }
            for image_id, segments in ((1, [(1, 4), (2, 9)]), (2, [(300, 4), (70000, 9)]))
        ]
        self.truth: dict[str, Any] = {"annotations": annotations, "categories": copy.deepcopy(CATEGORIES)}
        self.predictions: dict[str, Any] = {"annotations": copy.deepcopy(annotations)}

    def segments(self, kind: str, image: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = getattr(self, kind)["annotations"][image - 1]["segments_info"]
        return found

    def score(self, **options: Any) -> dict[str, Any]:
        for kind in ("truth", "predictions"):
            (self.folder / kind).mkdir(exist_ok=True)
            for image_id, panoptic_map in self.maps[kind].items():
                (self.folder / kind / f"{image_id}.png").write_bytes(encode_panoptic_png(panoptic_map))
            (self.folder / f"{kind}.json").write_text(json.dumps(getattr(self, kind)))
        return self.score_files(**options)

    def score_files(self, **options: Any) -> dict[str, Any]:
        return score(self.folder / "truth.json", self.folder / "predictions.json", **options)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path)


def test_the_tiny_set_is_perfect_before_it_is_damaged(data: DataSet) -> None:
    figures = data.score()
    assert (figures["PQ"], figures["N"], figures["N_th"], figures["N_st"]) == (100, 2, 1, 1)
    assert figures["per_class"]["9"]["name"] == "car"
    assert (figures["per_class"]["9"]["TP"], figures["per_class"]["9"]["isthing"]) == (2, True)


def test_folders_may_be_named_apart_from_the_json(data: DataSet, tmp_path: Path) -> None:
    data.score()
    shutil.move(tmp_path / "truth", tmp_path / "elsewhere")
    with pytest.raises(DataError, match="folder with the PNGs of "):
        data.score_files()
    assert data.score_files(truth_dir=tmp_path / "elsewhere")["PQ"] == 100


def test_predictions_of_unknown_images_are_ignored(data: DataSet) -> None:
    data.predictions["annotations"].insert(0, {"image_id": 77, "file_name": "no.png", "segments_info": []})
    assert data.score()["PQ"] == 100


def test_an_image_without_any_segment_is_scored(data: DataSet) -> None:
    data.maps["predictions"][2][:] = 0
    data.segments("predictions", 2).clear()
    figures = data.score()
    assert (figures["per_class"]["9"]["FN"], figures["per_class"]["9"]["FP"]) == (1, 0)


def test_a_truth_without_area_and_iscrowd_is_counted_from_its_pixels(data: DataSet) -> None:
    for segment in data.segments("truth", 1):
        del segment["area"], segment["iscrowd"]
    assert data.score()["PQ"] == 100


def test_an_area_that_differs_from_the_pixels_is_used_and_warned_about(
    data: DataSet, caplog: pytest.LogCaptureFixture
) -> None:
    data.segments("truth", 1)[0]["area"] = 5
    assert data.score()["per_class"]["4"]["PQ"] == pytest.approx(100 * (4 / 5 + 1) / 2)
    assert "area of 1 segments differs" in caplog.text


def test_a_true_segment_without_pixels_is_missed_as_officially(
    data: DataSet, caplog: pytest.LogCaptureFixture
) -> None:
    data.segments("truth", 1).append({"id": 516, "category_id": 9, "iscrowd": 0, "area": 3})
    car = data.score()["per_class"]["9"]
    assert (car["TP"], car["FP"], car["FN"]) == (2, 0, 1)
    assert "1 segments" in caplog.text


def test_true_pixels_without_a_segment_belong_to_nobody_as_officially(
    data: DataSet, caplog: pytest.LogCaptureFixture
) -> None:
    data.maps["truth"][1][0, 0] = 515
    figures = data.score()
    assert sum(c["FN"] + c["FP"] for c in figures["per_class"].values()) == 0
    assert figures["PQ"] <= 100
    assert "segments" in caplog.text


def test_an_empty_truth_gives_no_figures(data: DataSet) -> None:
    data.truth["annotations"].clear()
    figures = data.score()
    assert (figures["PQ"], figures["N"]) == (None, 0)


def extra_id_in_png(data: DataSet) -> None:
    data.maps["predictions"][2][0, 3] = 513


def extra_id_in_json(data: DataSet) -> None:
    data.segments("predictions", 2).append({"id": 514, "category_id": 9})


def unknown_category(data: DataSet) -> None:
    data.segments("predictions", 1)[1]["category_id"] = 5


def unknown_true_category(data: DataSet) -> None:
    data.segments("truth", 1)[1]["category_id"] = 5


def missing_prediction(data: DataSet) -> None:
    del data.predictions["annotations"][1]


def other_size(data: DataSet) -> None:
    data.maps["predictions"][2] = np.array([[300, 300, 70000, 70000]])


def segment_twice(data: DataSet) -> None:
    data.segments("predictions", 1).append({"id": 2, "category_id": 4})


def void_as_segment(data: DataSet) -> None:
    data.segments("predictions", 2).append({"id": 0, "category_id": 4})


def image_twice(data: DataSet) -> None:
    data.predictions["annotations"].append(data.predictions["annotations"][0])


def category_twice(data: DataSet) -> None:
    data.truth["categories"].append(CATEGORIES[1])


def no_segments_info(data: DataSet) -> None:
    del data.predictions["annotations"][0]["segments_info"]


def no_file_name(data: DataSet) -> None:
    del data.predictions["annotations"][1]["file_name"]


def no_image_id(data: DataSet) -> None:
    del data.truth["annotations"][1]["image_id"]


def no_segment_id(data: DataSet) -> None:
    del data.segments("predictions", 2)[0]["id"]


def no_categories(data: DataSet) -> None:
    del data.truth["categories"]


def detection_format(data: DataSet) -> None:
    data.predictions = [{"image_id": 1, "bbox": [0, 0, 1, 1]}]  # type: ignore[assignment]


def category_as_text(data: DataSet) -> None:
    data.segments("predictions", 1)[0]["category_id"] = "sky"


def odd_crowd(data: DataSet) -> None:
    data.segments("truth", 1)[0]["iscrowd"] = 2


def negative_area(data: DataSet) -> None:
    data.segments("truth", 1)[0]["area"] = -4


REFUSALS = {
    extra_id_in_png: ["predictions/2.png", "image 2", "segment 513 is in the PNG but not in the JSON"],
    extra_id_in_json: ["predictions/2.png", "image 2", "segment 514 is in the JSON but not in the PNG"],
    unknown_category: ["predictions.json", "image 1", "segment 2 has category_id 5"],
    unknown_true_category: ["truth.json", "image 1", "segment 2 has category_id 5"],
    missing_prediction: ["predictions.json", "image 2", "has no prediction"],
    other_size: ["predictions/2.png", "image 2", "4 x 1", "4 x 2"],
    segment_twice: ["predictions.json", "image 1", "segment 2 is listed twice"],
    void_as_segment: ["predictions.json", "image 2", "segment 0"],
    image_twice: ["predictions.json", "image 1 is annotated twice"],
    category_twice: ["truth.json", "category 9 is listed twice"],
    no_segments_info: ["predictions.json", "image 1", "'segments_info'", "missing"],
    no_file_name: ["predictions.json", "image 2", "'file_name'", "missing"],
    no_image_id: ["truth.json", "annotation 1", "'image_id'", "missing"],
    no_segment_id: ["predictions.json", "image 2", "'id'", "missing"],
    no_categories: ["truth.json", "'categories'", "missing"],
    detection_format: ["predictions.json", "COCO panoptic format", "found list"],
    category_as_text: ["predictions.json", "image 1", "'category_id' is 'sky'"],
    odd_crowd: ["truth.json", "image 1", "segment 1", "iscrowd is 2"],
    negative_area: ["truth.json", "image 1", "segment 1", "area is -4"],
}


@pytest.mark.parametrize("damage", REFUSALS, ids=lambda damage: damage.__name__)
def test_damaged_input_is_refused_and_the_culprit_named(
    data: DataSet, damage: Callable[[DataSet], None]
) -> None:
    damage(data)
    with pytest.raises(DataError) as caught:
        data.score()
    for part in REFUSALS[damage]:
        assert part in str(caught.value)


def test_a_missing_png_is_refused(data: DataSet, tmp_path: Path) -> None:
    data.score()
    (tmp_path / "predictions" / "2.png").unlink()
    with pytest.raises(DataError, match=r"predictions/2\.png: the PNG of image 2 is missing"):
        data.score_files()


def test_a_truncated_png_is_refused(data: DataSet, tmp_path: Path) -> None:
    data.score()
    png = tmp_path / "predictions" / "2.png"
    png.write_bytes(png.read_bytes()[:50])
    with pytest.raises(DataError, match=r"image 2: .*predictions/2\.png"):
        data.score_files()


def test_a_json_that_is_missing_or_no_json_is_refused(data: DataSet, tmp_path: Path) -> None:
    data.score()
    (tmp_path / "predictions.json").write_text("{")
    with pytest.raises(DataError, match=r"predictions\.json: is not JSON"):
        data.score_files()
    (tmp_path / "predictions.json").unlink()
    with pytest.raises(DataError, match=r"predictions\.json: cannot be read"):
        data.score_files()


def test_a_refusal_reaches_the_caller_from_another_process(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    for kind in ("truth", "predictions"):
        for copy_id in range(3, 40):
            annotation = copy.deepcopy(getattr(data, kind)["annotations"][0])
            getattr(data, kind)["annotations"].append(
                annotation | {"image_id": copy_id, "file_name": f"{copy_id}.png"}
            )
            data.maps[kind][copy_id] = np.array(MAPS[1])
    data.maps["predictions"][30][0, 0] = 9
    with pytest.raises(DataError, match="image 30: segment 9"):
        data.score(processes=2)
