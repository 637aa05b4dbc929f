"""The `upsnet` program: one sub-command per step of the pipeline, and wiring only.

Bad input ends with its one message and exit code 2; any other exception is a bug and keeps its traceback.
What is slow to import (torch above all) is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from upsnet.config import Config, load_config, manual, read_config, to_yaml
from upsnet.errors import UpsnetError
from upsnet.launch import launch_workers
from upsnet.storage import make_folder, write_file

if TYPE_CHECKING:
    import torch

    from upsnet.data.categories import CategoryTable
    from upsnet.data.shards import PreparedData
    from upsnet.model.network import Network
    from upsnet.tracking import Tracker

RUN_FILE = "mlflow_run.json"
"""In the folder of a training: the id of its MLflow run, which `evaluate` goes on with."""

app = typer.Typer(
    help="UPSNet panoptic segmentation: configure, prepare, train, evaluate, report, compare and more.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Option("--config", help="Resolved config.yaml, see 'upsnet configure'.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Prepared data, see 'upsnet prepare'.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: the GPU if there is one.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
SemanticCheckpoint = Annotated[
    Path | None,
    typer.Option(help="Second network, for the semantic part beside a Mask R-CNN (MR-CNN-PSP)."),
]
Workers = Annotated[
    int, typer.Option(min=1, envvar="WORKERS", help="Processes that share the work, started by horovodrun.")
]


@app.command()
def configure(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value ...")] = None,
    preset: Annotated[str, typer.Option(help="Name in configs/, or a YAML file.")] = "mini",
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Name in configs/variants/, or a YAML file; several: a+b, or repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the resolved config.yaml.")] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print the network's parameters and GFLOPs.")
    ] = False,
    stuff: Annotated[int | None, typer.Option(min=0, help="Stuff classes, for --summary.")] = None,
    things: Annotated[int | None, typer.Option(min=0, help="Thing classes, for --summary.")] = None,
    from_data: Annotated[
        Path | None, typer.Option(help="Write a preset for this COCO panoptic folder to --out, or print it.")
    ] = None,
    help_config: Annotated[bool, typer.Option("--help-config", help="Print the manual of all keys.")] = False,
) -> None:
    """Join defaults, preset, variants and overrides into one config.yaml."""
    if help_config:
        print(manual())
        return
    if from_data is not None:
        if overrides or variant or summary:
            raise UpsnetError("--from-data writes a preset; give variants and overrides with it, later")
        from upsnet.data.own_preset import own_preset, write_preset

        print(own_preset(from_data) if out is None else write_preset(from_data, out))
        return
    variants = [name for joined in variant or [] for name in joined.split("+") if name]
    config = load_config(preset, variants, overrides or [])
    if out is not None:
        write_file(to_yaml(config), out)
        print(f"wrote {out}")
    if summary:
        from upsnet.model.summary import summary as describe

        print(describe(config, *_class_counts(config, stuff, things)))
        if config.model.detector_weights != "none" and things is None:
            print(_starting_weights(config))
    if out is None and not summary:
        raise UpsnetError("configure: nothing to do; give --out, --summary, --from-data or --help-config")


@app.command()
def prepare(
    config: ConfigFile,
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared data.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave faulty images out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what the data is and what is wrong; writes nothing.")
    ] = False,
    processes: Processes = None,
) -> None:
    """Check a data set and turn it into shards."""
    from upsnet.data.prepare import prepare as prepare_data

    if check:
        _check_data(read_config(config), processes)
        return
    if out is None:
        raise UpsnetError("prepare: give --out FOLDER for the prepared data, or --check")
    data = prepare_data(read_config(config).data, out, skip_bad=skip_bad, processes=processes)
    print(f"{out}: prepared data, version {data.version}")


@app.command()
def train(
    config: ConfigFile,
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and log.")],
    resume: Annotated[
        Literal["auto", "unfinished", "never"],
        typer.Option(help="auto: go on from the newest good checkpoint; unfinished: unless it is the last."),
    ] = "auto",
    init_from: Annotated[
        Path | None,
        typer.Option(help="Start from the weights of this checkpoint or training, perhaps of other classes."),
    ] = None,
    workers: Workers = 1,
    expect_workers: Annotated[
        int | None, typer.Option(min=1, help="Refuse to train in another number of processes.")
    ] = None,
    final: Annotated[
        Path | None, typer.Option(help="Name the last checkpoint so, too, when the training is finished.")
    ] = None,
    data_dvc_hash: Annotated[
        str, typer.Option(help="DVC's hash of the data, to be noted; default: that of the dvc.lock beside.")
    ] = "",
) -> None:
    """Train the network."""
    from upsnet.data.shards import PreparedData

    settings, prepared = read_config(config), PreparedData(data)
    make_folder(out)
    launch_workers(workers)
    from upsnet import distributed
    from upsnet.evaluation.pictures import draw_progress
    from upsnet.records import log_inputs, run_name
    from upsnet.tracking import LOG_NAME, open_tracker
    from upsnet.training.curves import write_curves
    from upsnet.training.trainer import train as train_model

    distributed.init()
    distributed.expect_world_size(expect_workers)
    tracker = open_tracker(settings.tracking, out, run_file=out / RUN_FILE, run_name=run_name(settings))
    with _closing(tracker):
        log_inputs(tracker, settings, prepared, init_from.absolute().name if init_from else "")
        checkpoint = train_model(
            settings,
            prepared,
            out,
            resume=resume,
            validate=_validation(settings, prepared),
            show=partial(draw_progress, settings, prepared, tracker, out),
            tracker=tracker,
            init_from=init_from,
        )
    if distributed.is_main():
        write_curves(out / LOG_NAME, out / "curves.csv")
        print(f"newest checkpoint: {checkpoint}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint, or the folder of a training.")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of metrics, predictions and pictures.")],
    config: Annotated[
        Path | None, typer.Option(help="Inference and evaluation settings; default: the checkpoint's.")
    ] = None,
    semantic_checkpoint: SemanticCheckpoint = None,
    workers: Workers = 1,
) -> None:
    """Run a network over the validation images and write all figures."""
    from upsnet.data.shards import PreparedData
    from upsnet.training.checkpoint import load_model

    given, prepared = read_config(config) if config else None, PreparedData(data)
    loaded = load_model(checkpoint, semantic_checkpoint)
    make_folder(out)
    launch_workers(workers)
    from upsnet import distributed
    from upsnet.evaluation.evaluator import evaluate as evaluate_model
    from upsnet.evaluation.report import print_report
    from upsnet.inference.oracles import predictor_for
    from upsnet.records import log_evaluation, log_inputs, run_name, switches
    from upsnet.tracking import open_tracker

    distributed.init()
    distributed.limit_threads()
    settings = _evaluation_settings(loaded.config, given)
    predictor = predictor_for(
        loaded.model, loaded.table, settings.inference, distributed.device(), settings.evaluation
    )
    metrics = evaluate_model(predictor, prepared, settings, out, table=loaded.table)
    same_run = switches(settings) == switches(loaded.config) and settings.variant == loaded.config.variant
    run_file = _run_file(checkpoint, out) if same_run else out / RUN_FILE
    tracker = open_tracker(settings.tracking, out, run_file=run_file, run_name=run_name(settings))
    with _closing(tracker):
        if not same_run:
            log_inputs(tracker, settings, prepared)
        if distributed.is_main():
            log_evaluation(tracker, metrics, out, loaded.iteration)
            print_report(metrics, _console())


@app.command()
def score(
    truth: Annotated[Path, typer.Argument(help="COCO panoptic JSON of the truth.")],
    predictions: Annotated[Path, typer.Argument(help="COCO panoptic JSON of the predictions.")],
    truth_dir: Annotated[
        Path | None, typer.Option(help="PNGs of the truth; default: TRUTH without .json.")
    ] = None,
    predictions_dir: Annotated[
        Path | None, typer.Option(help="PNGs of the predictions; default: PREDICTIONS without .json.")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    processes: Processes = None,
) -> None:
    """Compute PQ, SQ and RQ of two COCO panoptic sets."""
    from upsnet.evaluation.report import print_report
    from upsnet.evaluation.score import score as score_sets

    metrics = score_sets(truth, predictions, truth_dir, predictions_dir, processes)
    if json_out is not None:
        write_file(json.dumps(metrics, indent=1) + "\n", json_out)
    print_report(metrics, _console())


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.")],
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint, or the folder of a training.")],
    out: Annotated[Path, typer.Option(help="Folder of the overlays, panoptic PNGs and JSONs.")],
    config: Annotated[
        Path | None, typer.Option(help="Inference settings; default: the checkpoint's.")
    ] = None,
    semantic_checkpoint: SemanticCheckpoint = None,
    device: Device = "",
) -> None:
    """Segment images; those that cannot be read are named at the end."""
    from upsnet.errors import DataError
    from upsnet.inference.files import output_names, read_image, write_prediction
    from upsnet.inference.predictor import Predictor
    from upsnet.training.checkpoint import load_model

    names = output_names(images, out)
    given = read_config(config) if config else None
    loaded = load_model(checkpoint, semantic_checkpoint)
    settings = _evaluation_settings(loaded.config, given).inference
    predictor = Predictor(loaded.model, loaded.table, settings, _device(device))
    make_folder(out)
    faults = []
    for path, name in zip(images, names, strict=True):
        try:
            image = read_image(path)
        except DataError as error:
            faults.append(str(error))
            continue
        write_prediction(predictor.predict_image(image), image, loaded.table, out, name)
        print(f"{path} -> {out / name}.overlay.png")
    if faults:
        raise DataError("\n  ".join([f"{len(faults)} of {len(images)} images could not be read:", *faults]))


@app.command()
def draw(
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint of an UPSNet, or the folder of a training.")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the strips.")],
    image: Annotated[
        list[int] | None,
        typer.Option(help="Id of a validation image; may be repeated. Default: a few, evenly spread."),
    ] = None,
    device: Device = "",
) -> None:
    """Draw image | truth | heuristic merge | UPSNet of chosen images (the paper's Figure 4)."""
    from upsnet.data.categories import refuse_other_categories
    from upsnet.data.shards import PreparedData
    from upsnet.evaluation.evaluator import strip_positions
    from upsnet.evaluation.pictures import draw_merges
    from upsnet.training.checkpoint import load_model

    loaded, prepared = load_model(checkpoint), PreparedData(data)
    refuse_other_categories(loaded.table, prepared.categories)
    ids = prepared.split("val").image_ids
    spread = sorted(strip_positions(len(ids), loaded.config.evaluation.strips))
    chosen = image or [ids[position] for position in spread]
    make_folder(out)
    for path in draw_merges(loaded.model, prepared, loaded.config.inference, _device(device), out, chosen):
        print(path)


@app.command()
def benchmark(
    preset: Annotated[str, typer.Option(help="Preset of a UPSNet; default: what the paper has.")] = "",
    sizes: Annotated[str, typer.Option(help="Images.")] = "800x1300,1024x2048,1200x1920",
    instances: Annotated[str, typer.Option(help="For post-processing.")] = "0,10,50",
    runs: Annotated[int | None, typer.Option(min=1, help="Default: 100 on a GPU, else 3 or 2.")] = None,
    warm_up: Annotated[int | None, typer.Option(min=1, help="Default: 10 on a GPU, else 1.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of benchmark.json and .md.")] = Path("runs/benchmark"),
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: the GPU if there is one.")] = "",
) -> None:
    """Measure UPSNet's run time and memory beside MR-CNN-PSP's (Table 5)."""
    from upsnet.evaluation.benchmark import cases, report, run

    measured_on = _device(device)
    shape = cases.Shape(preset, *_class_counts(load_config(preset), None, None)) if preset else None
    counts = cases.parse_counts(instances)
    planned = cases.make_cases(cases.parse_sizes(sizes), counts, str(measured_on), runs, warm_up, shape)
    make_folder(out)
    rows = run.run_cases(planned)
    figures = report.to_json(rows, report.environment(measured_on), with_paper=shape is None)
    write_file(json.dumps(figures, indent=1) + "\n", out / "benchmark.json")
    write_file(report.markdown(figures), out / "benchmark.md")
    report.print_table(figures, Console(width=None if sys.stdout.isatty() else 150))


@app.command()
def report(
    metrics: Annotated[Path, typer.Argument(help="metrics.json of 'upsnet evaluate'.")],
) -> None:
    """Print the table of an evaluation."""
    from upsnet.evaluation.metrics_file import read_metrics
    from upsnet.evaluation.report import print_report

    print_report(read_metrics(metrics), _console())


@app.command()
def compare(
    metrics: Annotated[
        list[Path] | None, typer.Argument(help="metrics.json files, or folders searched for them.")
    ] = None,
    mlflow_experiment: Annotated[
        str, typer.Option(help="Take the runs of this MLflow experiment, too.")
    ] = "",
    mlflow_parent: Annotated[
        str, typer.Option(help="Put the MLflow runs of these folders below one of this name (with --out).")
    ] = "",
    tables: Annotated[str, typer.Option(help="Such as 6,7; default: those that have a run.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of compare.md, .csv and .html.")] = None,
) -> None:
    """Lay runs out as the paper's tables, its figures beside ours."""
    from upsnet.evaluation.compare import compare as compare_runs
    from upsnet.evaluation.compare import parse_tables
    from upsnet.evaluation.compare_output import print_comparison, write_comparison
    from upsnet.evaluation.runs import collect_runs
    from upsnet.records import log_ablation

    if mlflow_parent and out is None:
        raise UpsnetError("compare: --mlflow-parent needs --out, where the id of that run is kept")
    numbers = parse_tables(tables)
    comparison = compare_runs(collect_runs(metrics or [], mlflow_experiment), numbers)
    written = write_comparison(comparison, out) if out is not None else []
    print_comparison(comparison, _console())
    for path in written:
        print(f"wrote {path}")
    if mlflow_parent and out is not None:
        log_ablation(mlflow_parent, metrics or [], out, RUN_FILE)


@app.command()
def sync(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, or folders above them.")],
) -> None:
    """Bring to MLflow what it missed while it did not answer."""
    from upsnet.tracking import sync_runs

    for synced in sync_runs(folders):
        sent = f"sent {synced.count} items" if synced.count else "nothing was missing"
        print(f"{synced.folder}: {sent}, MLflow run {synced.run_id or 'not opened'}")


def main() -> None:
    """Entry point of the program."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("upsnet").setLevel(logging.INFO)
    try:
        app()
    except UpsnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _check_data(config: Config, processes: int | None) -> None:
    """Prints what a data set is; raises what is wrong with it."""
    from upsnet.data.check import check, print_check
    from upsnet.errors import DataError

    report = check(config.data, processes=processes)
    print_check(report, _console())
    if report.problems:
        raise DataError("\n".join(report.problems))
    print("no fault found; 'upsnet prepare' reads every image in full")


def _class_counts(config: Config, stuff: int | None, things: int | None) -> tuple[int, int]:
    """Number of stuff and thing classes: as given, else those of the data set, else COCO's."""
    table = _known_categories(config)
    num_stuff, num_things = (53, 80) if table is None else (table.num_stuff, table.num_things)
    return (num_stuff if stuff is None else stuff, num_things if things is None else things)


def _known_categories(config: Config) -> CategoryTable | None:
    """The categories of the configured data set, if they can be had without reading much."""
    if config.data.source == "cityscapes":
        from upsnet.data.cityscapes import cityscapes_categories

        return cityscapes_categories()
    if config.data.coco is None or config.data.source != "coco":
        from upsnet.data.categories import CategoryTable
        from upsnet.data.synthetic import CATEGORIES

        return CategoryTable(CATEGORIES)
    from upsnet.data.coco_json import read_categories

    path = Path(config.data.coco.val.annotations)  # both splits have the same; this is the smaller file
    return read_categories(path) if path.is_file() else None


def _starting_weights(config: Config) -> str:
    """What the configured detector weights fill."""
    from upsnet.model.detector_weights import coco_thing_names, describe_detector_weights

    table = _known_categories(config)
    names = coco_thing_names() if table is None else table.names[table.num_stuff :]
    return describe_detector_weights(config.model, _class_counts(config, None, None)[0], names)


def _run_file(checkpoint: Path, out: Path) -> Path:
    """The run file of the training that made a checkpoint, or one of its own for an evaluation without."""
    folders = (checkpoint, *checkpoint.absolute().parents[:2])
    return next((f / RUN_FILE for f in folders if (f / RUN_FILE).is_file()), out / RUN_FILE)


def _validation(config: Config, data: PreparedData) -> Callable[[Network], dict[str, float]] | None:
    """What measures the network during a training, or None if the configuration asks for no evaluation."""
    if config.training.evaluation_interval == 0:
        return None
    from upsnet import distributed
    from upsnet.evaluation.evaluator import evaluate as evaluate_model
    from upsnet.inference.predictor import Predictor
    from upsnet.records import final_figures

    def validate(model: Network) -> dict[str, float]:
        predictor = Predictor(model, data.categories, config.inference, distributed.device())
        limit = config.training.evaluation_images
        return final_figures(evaluate_model(predictor, data, config, None, max_images=limit))

    return validate


def _evaluation_settings(trained: Config, given: Config | None) -> Config:
    """The configuration of the training, with the sections that `evaluate` reads as given."""
    if given is None:
        return trained
    sections = ("preset", "variant", "inference", "evaluation", "tracking")
    return trained.model_copy(update={name: getattr(given, name) for name in sections})


@contextmanager
def _closing(tracker: Tracker) -> Iterator[None]:
    """Ends the tracker's run with how the work ended."""
    try:
        yield
    except BaseException as error:
        tracker.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    tracker.close()


def _console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)


def _device(name: str) -> torch.device:
    import torch

    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UpsnetError(f"--device {name}: cannot be used here: {str(error).splitlines()[0]}") from error
    return device


if __name__ == "__main__":
    main()
