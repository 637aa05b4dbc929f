"""Measures one case in this process: the network, post-processing, memory.

Weights are random: time depends on how much there is to do, not on what was learnt, and that is fixed. The
box head sees full numbers of proposals, the mask head full numbers of detections, post-processing made
instances (see `inputs`).
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from upsnet.config import InferenceConfig
from upsnet.evaluation.benchmark.cases import Case
from upsnet.evaluation.benchmark.inputs import made_output, made_table, random_images, to_device
from upsnet.inference.predictor import Predictor
from upsnet.model.build import build_model
from upsnet.model.network import Network
from upsnet.model.pair import NetworkPair
from upsnet.structures import ImageBatch, Size


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the mean of the runs and their standard deviation, which a single run does not have."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, times: Sequence[float]) -> Timing:
        return cls(statistics.fmean(times), statistics.stdev(times) if len(times) > 1 else None)


@dataclass(frozen=True)
class Measurement:
    """One row of the table.

    Attributes:
        size: of the image before padding.
        instances: that post-processing was given.
        kept: how many of them are in its panoptic map.
        detections: that the mask head saw.
        runs: that the times are averaged over.
        gflops: of the network.
        peak_megabytes: 2**20 bytes, of the GPU, or of the whole process where there is none.
    """

    system: str
    preset: str
    size: Size
    instances: int
    kept: int
    detections: int
    runs: int
    network: Timing
    postprocessing: Timing
    gflops: float
    peak_megabytes: float


@torch.inference_mode()
def measure(case: Case, done: Callable[[], None]) -> list[Measurement]:
    """A row per number of instances; `done` is called after every run of the network."""
    device, seed = torch.device(case.device), case.config.seed
    torch.manual_seed(seed)
    model = build_model(case.config.model, case.shape.num_stuff, case.shape.num_things).to(device).eval()
    images = random_images(case.size, seed)
    own = random_images(case.semantic_size, seed) if case.semantic_size else None
    settings, detections = full_detections(model, images, case.config.inference, device)
    done()  # the first run of the warm-up
    times = []
    for _ in range(case.repeats.all - 1):
        start = _now(device)
        _predict(model, images, own, settings, device)
        times.append(_now(device) - start)
        done()
    network = Timing.of(times[case.repeats.warm_up - 1 :])
    rows = []
    for instances in case.instances:
        timing, kept = _postprocessing(case, model, instances, device)
        rows.append(
            Measurement(
                *(case.system, case.shape.preset, case.size, instances, kept, detections),
                *(case.repeats.runs, network, timing, case.gflops, _peak_megabytes(device)),
            )
        )
    return rows


def full_detections(
    model: Network, images: ImageBatch, settings: InferenceConfig, device: torch.device
) -> tuple[InferenceConfig, int]:
    """Settings with a score threshold that just lets `detections_per_img` random boxes through.

    A run without a threshold finds the score of the last box that is left. With that as the threshold the
    mask head sees the same boxes, but the NMS only about as many as that of a trained network, instead of
    every proposal in every class.

    Returns:
        The settings, and the number of boxes.
    """
    (output,) = model.predict(images.to(device), settings.model_copy(update={"score_thresh": 0.0}))
    scores = output.detections.scores
    lowest = float(scores.min()) if len(scores) else 0.0
    return settings.model_copy(update={"score_thresh": 0.999 * lowest}), len(scores)


def _predict(
    model: Network,
    images: ImageBatch,
    own: ImageBatch | None,
    settings: InferenceConfig,
    device: torch.device,
) -> None:
    """One run of the network, with the images' way to the device; `own` is for the PSPNet of a pair."""
    if own is None:
        model.predict(images.to(device), settings)
        return
    assert isinstance(model, NetworkPair)
    model.instances.detect(images.to(device), settings)
    model.semantics.semantic_logits(own.to(device))


def _postprocessing(case: Case, model: Network, instances: int, device: torch.device) -> tuple[Timing, int]:
    """Time of post-processing as `evaluate` measures it, and the instances in the panoptic map."""
    size, shape = case.semantic_size or case.size, case.shape
    classes = (shape.num_stuff, shape.num_things)
    predictor = Predictor(model, made_table(*classes), case.config.inference, device)
    output = to_device(made_output(size, *classes, instances, case.config.seed), device)
    times = []
    for _ in range(case.repeats.all):
        prediction = predictor.postprocess(output, 0, size, 0.0)
        times.append(prediction.milliseconds["postprocessing"])
    kept = sum(segment.score is not None for segment in prediction.segments)
    return Timing.of(times[case.repeats.warm_up :]), kept


def _now(device: torch.device) -> float:
    """Milliseconds, once the device has caught up."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * time.perf_counter()


def _peak_megabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
