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
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from upsnet.config import Config, load_config, manual, read_config, to_yaml
from upsnet.errors import StorageError, UpsnetError
from upsnet.launch import launch_workers
from upsnet.storage import make_folder, write_file
from upsnet.storage.local import (
    check_output,
    local_either,
    local_file,
    local_folder,
    output_file,
    output_folder,
    working_copy,
)
from upsnet.storage.paths import comparable, is_remote

if TYPE_CHECKING:
    import torch

    from upsnet.data.categories import CategoryTable
    from upsnet.data.shards import PreparedData
    from upsnet.model.network import Network
    from upsnet.tracking import Tracker
    from upsnet.training.checkpoint import LoadedModel

RUN_FILE = "mlflow_run.json"
"""In the folder of a training: the id of its MLflow run, which `evaluate` goes on with."""

app = typer.Typer(
    help="UPSNet panoptic segmentation: configure, prepare, train, evaluate, report, compare and more.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Paths are text here: they may be s3://BUCKET/KEY, which Path would change.
ConfigFile = Annotated[
    str, typer.Option("--config", metavar="PATH", help="Resolved config.yaml, see 'upsnet configure'.")
]
DataFolder = Annotated[
    str, typer.Option("--data", metavar="PATH", help="Prepared data, see 'upsnet prepare'.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: the GPU if there is one.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
SemanticCheckpoint = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Second network, for the semantic part beside a Mask R-CNN (MR-CNN-PSP)."
    ),
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
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where to write the resolved config.yaml.")
    ] = None,
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Print the network's parameters and GFLOPs, and which data are here."),
    ] = False,
    stuff: Annotated[int | None, typer.Option(min=0, help="Stuff classes, for --summary.")] = None,
    things: Annotated[int | None, typer.Option(min=0, help="Thing classes, for --summary.")] = None,
    from_data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Write a preset for this COCO panoptic folder to --out, or print it."
        ),
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

        if out is None:
            print(own_preset(from_data))
        else:
            with output_file(out) as file:
                print(write_preset(from_data, file))
        return
    variants = [name for joined in variant or [] for name in joined.split("+") if name]
    preset, *variants = [str(local_file(name)) if is_remote(name) else name for name in (preset, *variants)]
    config = load_config(preset, variants, overrides or [])
    if out is not None:
        with output_file(out) as file:
            write_file(to_yaml(config), file)
        print(f"wrote {out}")
    if summary:
        from upsnet.model.summary import summary as describe

        print(describe(config, *_class_counts(config, stuff, things)))
        if config.model.detector_weights != "none" and things is None:
            print(_starting_weights(config))
        from upsnet.data.dvc_lock import describe_data

        print(describe_data(Path(), config.data))
    if out is None and not summary:
        raise UpsnetError("configure: nothing to do; give --out, --summary, --from-data or --help-config")


@app.command()
def prepare(
    config: ConfigFile,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Folder of the prepared data.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave faulty images out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what the data is and what is wrong; writes nothing.")
    ] = False,
    processes: Processes = None,
) -> None:
    """Check a data set and turn it into shards."""
    from upsnet.data.prepare import prepare as prepare_data
    from upsnet.data.remote_sources import local_sources
    from upsnet.data.shards import MANIFEST, is_prepared_file

    settings = read_config(local_file(config))
    if not check and out is None:
        raise UpsnetError("prepare: give --out FOLDER for the prepared data, or --check")
    settings = settings.model_copy(update={"data": local_sources(settings.data)})
    if check or out is None:
        _check_data(settings, processes)
        return
    with output_folder(out, last=(MANIFEST,), owned=is_prepared_file) as folder:
        data = prepare_data(settings.data, folder, skip_bad=skip_bad, processes=processes)
    print(f"{out}: prepared data, version {data.version}")


@app.command()
def train(
    config: ConfigFile,
    data: DataFolder,
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of checkpoints and log.")],
    resume: Annotated[
        Literal["auto", "unfinished", "never"],
        typer.Option(help="auto: go on from the newest good checkpoint; unfinished: unless it is the last."),
    ] = "auto",
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Start from the weights of this checkpoint or training, perhaps of other classes.",
        ),
    ] = None,
    workers: Workers = 1,
    expect_workers: Annotated[
        int | None, typer.Option(min=1, help="Refuse to train in another number of processes.")
    ] = None,
    final: Annotated[
        str, typer.Option(help="Name the last checkpoint so, too, when the training is finished.")
    ] = "",
    data_dvc_hash: Annotated[
        str, typer.Option(help="DVC's hash of the data, to be noted; default: that of the dvc.lock beside.")
    ] = "",
) -> None:
    """Train the network."""
    from upsnet.data.shards import open_prepared

    settings, prepared = read_config(local_file(config)), open_prepared(data)
    prepared.dvc_hash = data_dvc_hash or prepared.dvc_hash
    check_output(out)
    launch_workers(workers)
    from upsnet import distributed
    from upsnet.evaluation.pictures import draw_progress
    from upsnet.records import log_inputs, run_name
    from upsnet.tracking import LOG_NAME, open_tracker
    from upsnet.training.checkpoint import name_also
    from upsnet.training.curves import write_curves
    from upsnet.training.remote import local_checkpoint, run_folder
    from upsnet.training.trainer import train as train_model

    distributed.init()
    distributed.expect_world_size(expect_workers)
    start = local_checkpoint(init_from) if init_from else None
    with run_folder(out) as run, prepared.reading_ahead("train", "val"):
        run_file = run.path / RUN_FILE
        tracker = open_tracker(
            settings.tracking, run.path, run_file=run_file, run_name=run_name(settings), place=out
        )
        with _closing(tracker):
            name = comparable(init_from).absolute().name if init_from else ""
            log_inputs(tracker, settings, prepared, name)
            checkpoint = train_model(
                settings,
                prepared,
                run.path,
                resume=resume,
                validate=_validation(settings, prepared),
                show=partial(draw_progress, settings, prepared, tracker, run.path),
                tracker=tracker,
                init_from=start,
                saved=run.changed,
            )
        if distributed.is_main():
            write_curves(run.path / LOG_NAME, run.path / "curves.csv")
            if final:
                with output_file(final) as file:
                    make_folder(file.parent)
                    name_also(checkpoint, file)
            shown = f"{out.rstrip('/')}/{checkpoint.relative_to(run.path)}" if is_remote(out) else checkpoint
            print(f"newest checkpoint: {shown}")


@app.command()
def evaluate(
    checkpoint: Annotated[
        str, typer.Option(metavar="PATH", help="A checkpoint, or the folder of a training.")
    ],
    data: DataFolder,
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of metrics, predictions and pictures.")],
    config: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Inference and evaluation settings; default: the checkpoint's."),
    ] = None,
    semantic_checkpoint: SemanticCheckpoint = None,
    workers: Workers = 1,
) -> None:
    """Run a network over the validation images and write all figures."""
    from upsnet.data.shards import open_prepared
    from upsnet.training.remote import local_checkpoint

    given, prepared = read_config(local_file(config)) if config else None, open_prepared(data)
    trained = local_checkpoint(checkpoint)
    loaded = _load_model(trained, semantic_checkpoint)
    check_output(out)
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
    with output_folder(out, last=("metrics.json",), upload=distributed.is_main()) as folder:
        with prepared.reading_ahead("val"):
            metrics = evaluate_model(predictor, prepared, settings, folder, table=loaded.table)
        same_run = switches(settings) == switches(loaded.config) and settings.variant == loaded.config.variant
        run_file = _run_file(trained, folder) if same_run else folder / RUN_FILE
        own_run = not same_run or not run_file.is_file()  # such as for a model of MLflow's registry
        tracker = open_tracker(
            settings.tracking, folder, run_file=run_file, run_name=run_name(settings), place=out
        )
        with _closing(tracker):
            if own_run:
                log_inputs(tracker, settings, prepared)
            if distributed.is_main():
                log_evaluation(tracker, metrics, folder, loaded.iteration)
                print_report(metrics, _console())


@app.command()
def score(
    truth: Annotated[str, typer.Argument(help="COCO panoptic JSON of the truth.")],
    predictions: Annotated[str, typer.Argument(help="COCO panoptic JSON of the predictions.")],
    truth_dir: Annotated[
        str | None, typer.Option(metavar="PATH", help="PNGs of the truth; default: TRUTH without .json.")
    ] = None,
    predictions_dir: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="PNGs of the predictions; default: PREDICTIONS without .json."),
    ] = None,
    json_out: Annotated[
        str | None, typer.Option("--json", metavar="PATH", help="Write the figures here.")
    ] = None,
    processes: Processes = None,
) -> None:
    """Compute PQ, SQ and RQ of two COCO panoptic sets."""
    from upsnet.evaluation.report import print_report
    from upsnet.evaluation.score import score as score_sets

    pngs = _png_folder(truth, truth_dir), _png_folder(predictions, predictions_dir)
    metrics = score_sets(local_file(truth), local_file(predictions), *pngs, processes)
    if json_out is not None:
        with output_file(json_out) as file:
            write_file(json.dumps(metrics, indent=1) + "\n", file)
    print_report(metrics, _console())


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="JPEG or PNG files.")],
    checkpoint: Annotated[
        str, typer.Option(metavar="PATH", help="A checkpoint, or the folder of a training.")
    ],
    out: Annotated[
        str, typer.Option(metavar="PATH", help="Folder of the overlays, panoptic PNGs and JSONs.")
    ],
    config: Annotated[
        str | None, typer.Option(metavar="PATH", help="Inference settings; default: the checkpoint's.")
    ] = None,
    semantic_checkpoint: SemanticCheckpoint = None,
    device: Device = "",
) -> None:
    """Segment images; those that cannot be read are named at the end."""
    from upsnet.errors import DataError
    from upsnet.inference.files import output_names, read_image, write_prediction
    from upsnet.inference.predictor import Predictor
    from upsnet.training.remote import local_checkpoint

    names = output_names([comparable(image) for image in images], comparable(out))
    given = read_config(local_file(config)) if config else None
    loaded = _load_model(local_checkpoint(checkpoint), semantic_checkpoint)
    settings = _evaluation_settings(loaded.config, given).inference
    predictor = Predictor(loaded.model, loaded.table, settings, _device(device))
    check_output(out)
    faults = []
    with output_folder(out) as folder:
        for path, name in zip(images, names, strict=True):
            try:
                image = read_image(local_file(path))
            except (DataError, StorageError) as error:
                faults.append(str(error))
                continue
            write_prediction(predictor.predict_image(image), image, loaded.table, folder, name)
            print(f"{path} -> {out.rstrip('/')}/{name}.overlay.png")
    if faults:
        raise DataError("\n  ".join([f"{len(faults)} of {len(images)} images could not be read:", *faults]))


@app.command()
def draw(
    checkpoint: Annotated[
        str, typer.Option(metavar="PATH", help="A checkpoint of an UPSNet, or the folder of a training.")
    ],
    data: DataFolder,
    out: Annotated[str, typer.Option(metavar="PATH", help="Folder of the strips.")],
    image: Annotated[
        list[int] | None,
        typer.Option(help="Id of a validation image; may be repeated. Default: a few, evenly spread."),
    ] = None,
    device: Device = "",
) -> None:
    """Draw image | truth | heuristic merge | UPSNet of chosen images (the paper's Figure 4)."""
    from upsnet.data.categories import refuse_other_categories
    from upsnet.data.shards import open_prepared
    from upsnet.evaluation.evaluator import strip_positions
    from upsnet.evaluation.pictures import draw_merges
    from upsnet.training.remote import local_checkpoint

    loaded, prepared = _load_model(local_checkpoint(checkpoint)), open_prepared(data)
    refuse_other_categories(loaded.table, prepared.categories)
    ids = prepared.split("val").image_ids
    spread = sorted(strip_positions(len(ids), loaded.config.evaluation.strips))
    chosen = image or [ids[position] for position in spread]
    check_output(out)
    device_here = _device(device)
    with output_folder(out) as folder:
        for path in draw_merges(loaded.model, prepared, loaded.config.inference, device_here, folder, chosen):
            print(f"{out.rstrip('/')}/{path.relative_to(folder)}")


@app.command()
def benchmark(
    preset: Annotated[str, typer.Option(help="Preset of a UPSNet; default: what the paper has.")] = "",
    sizes: Annotated[str, typer.Option(help="Images.")] = "800x1300,1024x2048,1200x1920",
    instances: Annotated[str, typer.Option(help="For post-processing.")] = "0,10,50",
    runs: Annotated[int | None, typer.Option(min=1, help="Default: 100 on a GPU, else 3 or 2.")] = None,
    warm_up: Annotated[int | None, typer.Option(min=1, help="Default: 10 on a GPU, else 1.")] = None,
    out: Annotated[
        str, typer.Option(metavar="PATH", help="Folder of benchmark.json and .md.")
    ] = "runs/benchmark",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; default: the GPU if there is one.")] = "",
) -> None:
    """Measure UPSNet's run time and memory beside MR-CNN-PSP's (Table 5)."""
    from upsnet.evaluation.benchmark import cases, report, run

    measured_on = _device(device)
    shape = cases.Shape(preset, *_class_counts(load_config(preset), None, None)) if preset else None
    counts = cases.parse_counts(instances)
    planned = cases.make_cases(cases.parse_sizes(sizes), counts, str(measured_on), runs, warm_up, shape)
    check_output(out)
    rows = run.run_cases(planned)
    figures = report.to_json(rows, report.environment(measured_on), with_paper=shape is None)
    with output_folder(out) as folder:
        write_file(json.dumps(figures, indent=1) + "\n", folder / "benchmark.json")
        write_file(report.markdown(figures), folder / "benchmark.md")
    report.print_table(figures, Console(width=None if sys.stdout.isatty() else 150))


@app.command()
def report(
    metrics: Annotated[str, typer.Argument(help="metrics.json of 'upsnet evaluate'.")],
) -> None:
    """Print the table of an evaluation."""
    from upsnet.evaluation.metrics_file import read_metrics
    from upsnet.evaluation.report import print_report

    print_report(read_metrics(local_file(metrics)), _console())


@app.command()
def compare(
    metrics: Annotated[
        list[str] | None, typer.Argument(help="metrics.json files, or folders searched for them.")
    ] = None,
    mlflow_experiment: Annotated[
        str, typer.Option(help="Take the runs of this MLflow experiment, too.")
    ] = "",
    mlflow_run: Annotated[
        list[str] | None,
        typer.Option(help="Take this MLflow run by its id, or the runs below it; may be repeated."),
    ] = None,
    mlflow_parent: Annotated[
        str, typer.Option(help="Put the MLflow runs of these folders below one of this name (with --out).")
    ] = "",
    tables: Annotated[str, typer.Option(help="Such as 6,7; default: those that have a run.")] = "",
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder of compare.md, .csv and .html.")
    ] = None,
) -> None:
    """Lay runs out as the paper's tables, its figures beside ours."""
    from upsnet.evaluation.compare import compare as compare_runs
    from upsnet.evaluation.compare import parse_tables
    from upsnet.evaluation.compare_output import print_comparison, write_comparison
    from upsnet.evaluation.run_details import log_to_parent, with_details
    from upsnet.evaluation.runs import collect_runs
    from upsnet.records import log_ablation

    if mlflow_parent and out is None:
        raise UpsnetError("compare: --mlflow-parent needs --out, where the id of that run is kept")
    numbers = parse_tables(tables)
    paths = [local_either(path, _is_compared) for path in metrics or []]
    runs = collect_runs(paths, mlflow_experiment, mlflow_run or [])
    print_comparison(compare_runs(runs, numbers), _console())
    if out is not None:
        with output_folder(out) as folder, with_details(runs) as detailed:
            written = write_comparison(compare_runs(detailed, numbers), folder)
            for path in written:
                print(f"wrote {out.rstrip('/')}/{path.relative_to(folder)}")
            if mlflow_parent:
                log_ablation(mlflow_parent, paths, folder, RUN_FILE)
            elif parent := log_to_parent(runs, written):
                print(f"stored with MLflow run {parent}, the parent of these runs")


@app.command()
def register(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a training.")
    ],
    name: Annotated[str, typer.Option(help="Of the registered model, made if it is new.")] = "upsnet",
    run: Annotated[
        str, typer.Option(help="Id of the MLflow run with its figures; default: that of the training.")
    ] = "",
) -> None:
    """Register an evaluated network in MLflow as a model to serve; the best one becomes the champion."""
    from upsnet.registry import evaluated_run, register_checkpoint
    from upsnet.tracking import tracking_place, tracking_uri
    from upsnet.tracking.run_file import read_run_id
    from upsnet.training.checkpoint import open_checkpoint
    from upsnet.training.remote import local_checkpoint

    file, content = open_checkpoint(local_checkpoint(checkpoint))
    run_id = run or read_run_id(_run_file(file, file.parent), tracking_uri())
    if not run_id:
        raise UpsnetError(
            f"register: no run of MLflow at {tracking_place()} is noted beside {file} ({RUN_FILE}); train "
            "with MLflow, send what it missed by 'upsnet sync', or give --run ID"
        )
    figures, tags = evaluated_run(run_id, int(content["iteration"]))
    done = register_checkpoint(name, file, run_id, figures, tags)
    state = "champion" if done.champion else "not the champion"
    print(f"{done.name} version {done.version}, {state}: {done.reason}")
    print(f"serve it: mlflow models serve -m models:/{done.name}/{done.version} --env-manager local -p 5001")


@app.command()
def sync(
    folders: Annotated[list[str], typer.Argument(help="Folders of runs, or folders above them.")],
) -> None:
    """Bring to MLflow what it missed while it did not answer."""
    from upsnet.tracking import sync_runs
    from upsnet.tracking.outbox import is_part_of_outbox

    for place in folders:
        with working_copy(place, is_part_of_outbox) as folder:
            for synced in sync_runs([folder]):
                sent = f"sent {synced.count} items" if synced.count else "nothing was missing"
                shown = str(synced.folder).replace(str(folder), place.rstrip("/"), 1)
                print(f"{shown}: {sent}, MLflow run {synced.run_id or 'not opened'}")


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

    path = local_file(config.data.coco.val.annotations)  # both splits have the same; this is the smaller file
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


def _load_model(checkpoint: Path, semantic_checkpoint: str | None = None) -> LoadedModel:
    from upsnet.training.checkpoint import load_model
    from upsnet.training.remote import local_checkpoint

    return load_model(checkpoint, local_checkpoint(semantic_checkpoint) if semantic_checkpoint else None)


def _is_compared(name: str) -> bool:
    """Whether `compare` reads this file of an evaluation in S3."""
    path = PurePath(name)
    return path.name == "metrics.json" or (path.parent.name == "strips" and path.suffix == ".png")


def _png_folder(annotations: str, folder: str | None) -> Path | None:
    """The PNGs of a COCO panoptic JSON; of one in S3 they lie beside it there."""
    if folder is None and is_remote(annotations):
        folder = annotations.removesuffix(".json")
    return None if folder is None else local_folder(folder)


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
