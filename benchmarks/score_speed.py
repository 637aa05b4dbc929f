"""Speed of `upsnet score` beside the usual way of computing panoptic quality, on copies of one data set.

    python benchmarks/score_speed.py TRUTH.json [--copies N]

The usual way, restated here: one process, and per image RGB arrays added up to ids, one `np.unique` over the
predicted ids and one over all pairs. Both score the truth shifted by a few pixels, and must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from upsnet.data.panoptic_png import decode_panoptic_png, encode_panoptic_png
from upsnet.evaluation.panoptic_quality import MetricCategory, TrueSegment, match_segments, panoptic_quality
from upsnet.evaluation.score import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("truth", type=Path, help="COCO panoptic JSON; the PNGs lie in the folder of its name")
    parser.add_argument("--copies", type=int, default=5, help="how often every image is scored")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, predictions = write_sets(arguments.truth, Path(folder), arguments.copies)
        images = len(json.loads(truth.read_text())["annotations"])
        reads = timed(lambda: decode_all(truth, predictions))[0]
        cores = len(os.sched_getaffinity(0))
        one, one_figures = timed(lambda: score(truth, predictions, processes=1))
        many, many_figures = timed(lambda: score(truth, predictions))
        usual, usual_figures = timed(lambda: usual_score(truth, predictions))
    assert one_figures == many_figures == usual_figures, "the three disagree"
    print(f"{images} images, {cores} cores, PQ {one_figures['PQ']:.6f} from all three")
    for name, seconds in (
        ("usual way, one process", usual),
        ("upsnet score, one process", one),
        ("  of which decoding the PNGs", reads),
        (f"upsnet score, {cores} processes", many),
    ):
        print(f"{name:32} {seconds:7.2f} s {1000 * seconds / images:7.2f} ms/image {usual / seconds:6.2f} x")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the faster of two runs, and the result."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def write_sets(source: Path, folder: Path, copies: int) -> tuple[Path, Path]:
    """Truth and predictions (the truth shifted 3 down and 5 right) of `copies` copies of the images."""
    values = json.loads(source.read_text())
    truth, predictions = folder / "truth.json", folder / "predictions.json"
    for path in (truth, predictions):
        path.with_suffix("").mkdir()
    entries = []
    for annotation in values["annotations"]:
        panoptic_map = decode_panoptic_png(source.with_suffix("") / annotation["file_name"])
        shifted = np.zeros_like(panoptic_map)
        shifted[3:, 5:] = panoptic_map[:-3, :-5]
        left = set(np.unique(shifted).tolist())
        kept = [segment for segment in annotation["segments_info"] if segment["id"] in left]
        png = encode_panoptic_png(shifted)
        for number in range(copies):
            name = f"{annotation['image_id']}-{number}"
            shutil.copyfile(
                source.with_suffix("") / annotation["file_name"], truth.with_suffix("") / f"{name}.png"
            )
            (predictions.with_suffix("") / f"{name}.png").write_bytes(png)
            entry = {"image_id": name, "file_name": f"{name}.png"}
            entries.append(
                (entry | {"segments_info": annotation["segments_info"]}, entry | {"segments_info": kept})
            )
    truth.write_text(json.dumps({"annotations": [t for t, _ in entries], "categories": values["categories"]}))
    predictions.write_text(json.dumps({"annotations": [p for _, p in entries]}))
    return truth, predictions


def decode_all(*sets: Path) -> None:
    for path in sets:
        for png in path.with_suffix("").iterdir():
            decode_panoptic_png(png)


def usual_score(truth: Path, predictions: Path) -> dict[str, Any]:
    """Reads and counts the usual way; matching and averaging cost little and are shared."""
    true_set, predicted_set = json.loads(truth.read_text()), json.loads(predictions.read_text())
    predicted_of = {annotation["image_id"]: annotation for annotation in predicted_set["annotations"]}
    matches = []
    for annotation in true_set["annotations"]:
        predicted = predicted_of[annotation["image_id"]]
        true_map = usual_decode(truth.with_suffix("") / annotation["file_name"])
        predicted_map = usual_decode(predictions.with_suffix("") / predicted["file_name"])
        np.unique(predicted_map, return_counts=True)  # the check that PNG and JSON agree
        values, counts = np.unique(
            true_map.astype(np.uint64) * 256**3 + predicted_map.astype(np.uint64), return_counts=True
        )
        pairs = {
            (int(value) // 256**3, int(value) % 256**3): int(count)
            for value, count in zip(values, counts, strict=True)
        }
        segments = {
            s["id"]: TrueSegment(s["category_id"], bool(s["iscrowd"]), s["area"])
            for s in annotation["segments_info"]
        }
        classes = {s["id"]: s["category_id"] for s in predicted["segments_info"]}
        matches.append(match_segments(pairs, segments, classes))
    categories = {
        c["id"]: MetricCategory(c["name"], bool(c["isthing"]), str(c["id"])) for c in true_set["categories"]
    }
    return panoptic_quality(matches, categories)


def usual_decode(png: Path) -> np.ndarray:
    rgb = np.array(Image.open(png), dtype=np.uint32)
    return rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]


if __name__ == "__main__":
    main()
