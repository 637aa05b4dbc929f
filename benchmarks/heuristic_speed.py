"""The heuristic merge beside the way of the COCO panoptic API's combine script, in one run.

    python benchmarks/heuristic_speed.py [--runs N]

The script's way, restated here: dictionaries with RLEs as a results file has them, overlaps and unions by
pycocotools, every mask decoded to the whole image. Its RLEs are ready when its time begins (making them is
shown apart), and no PNG is written; our time includes the pasting of the mask logits. Both must give the
same. Both run on one thread, as pycocotools does, and CPU time is taken: other programs do not count.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as rle

from upsnet.config import InferenceConfig
from upsnet.inference.heuristic import merge_heuristic
from upsnet.model.panoptic_head import resize_mask_logits
from upsnet.structures import Detections, Size

SIZES: tuple[Size, ...] = ((800, 1300), (1024, 2048))
INSTANCES = (10, 50)
NUM_STUFF, NUM_THINGS = 53, 80
CLASSES_PER_IMAGE = 12
SETTINGS = InferenceConfig(merge="heuristic")

Entry = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20, help="the fastest of so many runs counts")
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools, at every decoded mask
    torch.set_num_threads(1)
    print(f"{'size':>10}  instances   kept   its RLEs ms   script ms   ours ms    ratio")
    for size in SIZES:
        for count in INSTANCES:
            detections, semantic_map = scene(size, count)
            ((encoding, (instances, stuff)),) = fastest(2, partial(as_results, detections, semantic_map))
            (script, (their_map, their_segments)), (ours, (our_map, our_segments)) = fastest(
                runs,
                partial(script_merge, instances, stuff, size),
                partial(merge_heuristic, detections, semantic_map, NUM_STUFF, SETTINGS),
            )
            check_equal(their_map, their_segments, our_map, [s.class_id for s in our_segments])
            kept = sum(segment.score is not None for segment in our_segments)
            print(
                f"{size[0]:>5}x{size[1]:<4} {count:>10} {kept:>6} {1000 * encoding:13.1f} "
                f"{1000 * script:11.1f} {1000 * ours:9.2f} {script / ours:7.1f}x"
            )
    print("same maps and classes everywhere")


def fastest(runs: int, *works: Callable[[], Any]) -> list[tuple[float, Any]]:
    """CPU seconds of the fastest run of each, and its result; they take turns, under the same conditions."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        results = []
        for work, times in zip(works, seconds, strict=True):
            start = time.process_time()
            results.append(work())
            times.append(time.process_time() - start)
    return [(min(times), result) for times, result in zip(seconds, results, strict=True)]


def scene(size: Size, count: int) -> tuple[Detections, np.ndarray]:
    """Blobs of a thirtieth to half of the short side, all of them sure, on smooth regions of some classes."""
    generator = torch.Generator().manual_seed(count)
    short = min(size)
    sides = short * torch.exp(torch.empty(count, 2).uniform_(-3.4, -0.7, generator=generator))
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([size[1], size[0]])
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes = torch.cat([centers - sides / 2, centers + sides / 2], dim=1).clamp(min=0).minimum(limit)
    grid = torch.linspace(-1, 1, 28)
    disc = 1 - grid[:, None] ** 2 - grid**2
    wobble = F.interpolate(torch.randn(count, 1, 5, 5, generator=generator), size=(28, 28), mode="bicubic")[
        :, 0
    ]
    detections = Detections(
        boxes,
        torch.linspace(0.99, 0.51, count),
        torch.randint(1, NUM_THINGS + 1, (count,), generator=generator),
        4 * disc + wobble,
    )
    coarse = torch.randn(1, CLASSES_PER_IMAGE, 6, 9, generator=generator)
    region = F.interpolate(coarse, size=size, mode="bicubic")[0].argmax(dim=0)
    class_ids = torch.randperm(NUM_STUFF + NUM_THINGS, generator=generator)[:CLASSES_PER_IMAGE]
    return detections, class_ids[region].to(torch.uint8).numpy()


def as_results(detections: Detections, semantic_map: np.ndarray) -> tuple[list[Entry], list[Entry]]:
    """Instances and stuff as the two results files hold them; the class ids stand for category ids."""
    size = semantic_map.shape
    instances = []
    for i, (label, score) in enumerate(
        zip(detections.labels.tolist(), detections.scores.tolist(), strict=True)
    ):
        mask = np.zeros(size, np.uint8, order="F")
        logits, (y0, x0, y1, x1) = resize_mask_logits(detections.mask_logits[i], detections.boxes[i], size)
        mask[y0:y1, x0:x1] = (logits > 0).numpy()
        instances.append(
            {"category_id": NUM_STUFF + label - 1, "score": score, "segmentation": rle.encode(mask)}
        )
    stuff = [
        {
            "category_id": class_id,
            "segmentation": rle.encode(np.asfortranarray(semantic_map == class_id, np.uint8)),
        }
        for class_id in np.unique(semantic_map).tolist()
    ]
    return instances, stuff


def script_merge(instances: list[Entry], stuff: list[Entry], size: Size) -> tuple[np.ndarray, list[Entry]]:
    """One image the script's way: things by score, then stuff, each by its mask over the whole image."""
    panoptic_map = np.zeros(size, np.uint32)
    segments: list[Entry] = []

    def add(category_id: int, pixels: np.ndarray) -> None:
        segments.append({"id": len(segments) + 1, "category_id": category_id})
        panoptic_map[pixels] = len(segments)

    sure = [entry for entry in instances if entry["score"] >= SETTINGS.heuristic_score_thresh]
    union = None
    for entry in sorted(sure, key=lambda entry: -entry["score"]):
        own = entry["segmentation"]
        area = rle.area(own)
        if area == 0:
            continue
        covered = 0 if union is None else rle.area(rle.merge([union, own], intersect=True))
        if covered / area > SETTINGS.heuristic_overlap_thresh:
            continue
        union = own if union is None else rle.merge([union, own])
        pixels = rle.decode(own) == 1
        add(entry["category_id"], pixels & (panoptic_map == 0) if covered else pixels)
    for entry in stuff:
        if entry["category_id"] >= NUM_STUFF:
            continue
        free = (rle.decode(entry["segmentation"]) == 1) & (panoptic_map == 0)
        if free.sum() >= SETTINGS.stuff_area:
            add(entry["category_id"], free)
    return panoptic_map, segments


def check_equal(
    their_map: np.ndarray, their_segments: list[Entry], our_map: np.ndarray, our_classes: list[int]
) -> None:
    """The maps are the same but for the numbers of the segments, and so are the classes."""
    pairs = np.unique(np.stack([their_map.ravel(), our_map.ravel().astype(np.uint32)]), axis=1).T.tolist()
    their_class = {0: None} | {segment["id"]: segment["category_id"] for segment in their_segments}
    our_class = {0: None} | dict(enumerate(our_classes, 1))
    assert len(pairs) == len(dict(pairs)) == len({ours for _, ours in pairs}), "the maps differ"
    assert all(their_class[theirs] == our_class[ours] for theirs, ours in pairs), "the classes differ"
    assert len(their_class) == len(our_class), "one has more segments"


if __name__ == "__main__":
    main()
