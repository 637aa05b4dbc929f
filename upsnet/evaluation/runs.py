"""The runs that are compared with the paper, from metrics.json files or MLflow, and groups over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from upsnet.errors import UpsnetError
from upsnet.evaluation.metrics_file import read_metrics
from upsnet.evaluation.paper import FIGURES, system_of


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        source: file or MLflow run that it was read from.
        system: see `system_of`.
        seed: None where the source does not say.
        images: number of validation images.
        device: empty where the source does not say.
        figures: percent and milliseconds, by the names of `FIGURES`; undefined ones are left out.
        classes: `per_class` of metrics.json; empty where the source has none.
        strips: folder of its picture strips, None where there are none.
        mlflow_run, mlflow_parent: ids, empty for a run of a file.
    """

    source: str
    preset: str
    system: str
    seed: int | None
    images: int
    device: str
    figures: Mapping[str, float]
    classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strips: Path | None = None
    mlflow_run: str = ""
    mlflow_parent: str = ""


@dataclass(frozen=True)
class Spread:
    """One figure over the runs of a group; `deviation` is the sample's, None for a single run."""

    mean: float
    low: float
    high: float
    deviation: float | None


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in the seed only."""

    preset: str
    system: str
    images: int
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """preset+variants."""
        return "+".join(part for part in (self.preset, self.system) if part)

    @property
    def seeds(self) -> int:
        """Number of different seeds; runs that do not say theirs count each."""
        known = {run.seed for run in self.runs if run.seed is not None}
        return len(known) + sum(run.seed is None for run in self.runs)

    def spread(self, figure: str) -> Spread | None:
        """Mean and range of a figure, None if no run has it."""
        return _spread([run.figures[figure] for run in self.runs if figure in run.figures])

    def class_spread(self, category: str) -> Spread | None:
        """Mean and range of the PQ of a category, by its id as text; None if no run has it."""
        values = [run.classes.get(category, {}).get("PQ") for run in self.runs]
        return _spread([float(value) for value in values if value is not None])

    def by_seed(self, figure: str) -> dict[int, float]:
        """Mean of a figure for each known seed that has it."""
        known = {run.seed for run in self.runs if run.seed is not None and figure in run.figures}
        return {
            seed: mean(run.figures[figure] for run in self.runs if run.seed == seed and figure in run.figures)
            for seed in sorted(known)
        }


def collect_runs(paths: Sequence[Path], experiment: str = "", run_ids: Sequence[str] = ()) -> list[Run]:
    """The runs in files and folders, of an MLflow experiment if one is named, and of MLflow by id; each once.

    Raises:
        UpsnetError: see `runs_in`, `runs_of_mlflow` and `runs_by_id`.
    """
    of_experiment = runs_of_mlflow(experiment) if experiment else []
    return without_copies([*runs_in(paths), *of_experiment, *runs_by_id(run_ids)])


def runs_in(paths: Sequence[Path]) -> list[Run]:
    """The runs of metrics.json files, and of those that lie anywhere in folders.

    Raises:
        UpsnetError: a folder without any, or a file that holds something else.
    """
    found = []
    for file in _files(paths):
        strips = file.with_name("strips")
        run = run_of_metrics(read_metrics(file), str(file))
        found.append(replace(run, strips=strips if strips.is_dir() else None))
    return found


def runs_of_mlflow(experiment: str) -> list[Run]:
    """The evaluated runs of an MLflow experiment.

    Raises:
        UpsnetError: MLflow is missing or does not answer, there is no such experiment, or none of its runs
            was evaluated.
    """
    from upsnet.tracking import read_runs

    evaluated = [
        run
        for run in read_runs(experiment)
        if "PQ" in run["metrics"] and {"images", "preset"} <= run["tags"].keys()
    ]
    if not evaluated:
        raise UpsnetError(
            f"MLflow experiment {experiment!r}: none of its runs was evaluated; run 'upsnet evaluate'"
        )
    return [_run_of_mlflow(run) for run in evaluated]


def runs_by_id(run_ids: Sequence[str]) -> list[Run]:
    """Evaluated runs of MLflow; of a parent, the runs below it.

    Raises:
        UpsnetError: MLflow does not answer, or has no such run, or it was not evaluated.
    """
    from upsnet.tracking.lookup import read_runs_by_id

    found = read_runs_by_id(run_ids) if run_ids else []
    for run in found:
        if "PQ" not in run["metrics"] or "images" not in run["tags"]:
            raise UpsnetError(f"MLflow run {run['run_id']}: was not evaluated; run 'upsnet evaluate'")
    return [_run_of_mlflow(run) for run in found]


def run_of_metrics(metrics: Mapping[str, Any], source: str) -> Run:
    """A run from the content of metrics.json.

    Raises:
        UpsnetError: these are figures of `score`, which does not know what made the predictions.
    """
    if not metrics.get("preset") or "images" not in metrics:
        raise UpsnetError(
            f"{source}: does not say which preset and how many images (a file of 'upsnet score'?); "
            "expected the metrics.json of 'upsnet evaluate'"
        )
    seed, scales = metrics.get("seed"), metrics.get("scales") or ()
    try:  # `network` is a name in `metrics`, and in `milliseconds` a figure
        return Run(
            source=source,
            preset=str(metrics["preset"]),
            system=system_of(metrics.get("variant") or "", metrics.get("network") or "", scales),
            seed=None if seed is None else int(seed),
            images=int(metrics["images"]),
            device=str(metrics.get("device") or ""),
            figures=_known({**metrics, "network": None, **(metrics.get("milliseconds") or {})}),
            classes=metrics.get("per_class") or {},
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise UpsnetError(
            f"{source}: a value is not what 'upsnet evaluate' writes ({error}); evaluate again"
        ) from error


def without_copies(runs: Iterable[Run]) -> list[Run]:
    """Each evaluation once: a copy of a metrics.json, or the same run in MLflow, is no second seed.

    Copies have all figures alike, run times too; one of them may not say its seed.
    """
    kept: dict[object, list[Run]] = {}
    for run in runs:
        alike = kept.setdefault((run.preset, run.system, run.images, tuple(sorted(run.figures.items()))), [])
        copy = next((old for old in alike if old.seed == run.seed or None in (old.seed, run.seed)), None)
        if copy is None:
            alike.append(run)
        elif copy.seed is None:
            alike[alike.index(copy)] = run
    return [run for alike in kept.values() for run in alike]


def group_runs(runs: Iterable[Run]) -> list[RunGroup]:
    """The runs by preset, system and number of images, in order of these."""
    members: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        members.setdefault((run.preset, run.images, run.system), []).append(run)
    return [
        RunGroup(preset, system, images, tuple(group))
        for (preset, images, system), group in sorted(members.items())
    ]


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(mean(values), min(values), max(values), stdev(values) if len(values) > 1 else None)


def _files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        found = sorted(path.rglob("metrics.json")) if path.is_dir() else [path]
        if not found:
            raise UpsnetError(f"{path}: no metrics.json in this folder; make one with 'upsnet evaluate'")
        files += found
    return files


def _run_of_mlflow(run: Mapping[str, Any]) -> Run:
    """A run as `evaluate` logs it, see records.py: its figures by the names they have in MLflow."""
    from upsnet import records
    from upsnet.tracking import PARENT_TAG

    params, tags, metrics = run["params"], run["tags"], run["metrics"]
    values = {
        **tags,
        **{name.removeprefix(records.DETAIL): value for name, value in metrics.items()},
        "milliseconds": {p: metrics[name] for p, name in records.TIMES.items() if name in metrics},
        "network": params.get("network", ""),
        "scales": ["several"] if params.get("multi_scale", "off") != "off" else [],
    }
    read = run_of_metrics(values, f"MLflow run {run['name']}")
    return replace(read, mlflow_run=run["run_id"], mlflow_parent=tags.get(PARENT_TAG, ""))


def _known(values: Mapping[str, Any]) -> dict[str, float]:
    figures = {name: float(values[name]) for name in FIGURES if values.get(name) is not None}
    return {name: value for name, value in figures.items() if math.isfinite(value)}
