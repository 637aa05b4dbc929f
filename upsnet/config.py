"""Every knob of the program, and how its value is found.

One frozen pydantic model per section; a `dvc.yaml` stage depends on the sections it reads. Values are
layered, lowest first: the defaults here (the paper's COCO numbers) → preset → variants → overrides.
`load_config` joins the layers, `to_yaml` gives the one resolved `config.yaml` that every step reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from upsnet.errors import ConfigError

CONFIGS_DIR = Path(__file__).resolve().parent.parent / "configs"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Frozen, unknown keys refused, the docstring under a field is its manual entry."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


class CocoSplit(Section):
    """Where one split of a COCO panoptic data set lies."""

    images: str
    """Folder of the images."""
    annotations: str
    """The panoptic JSON."""
    masks: str = ""
    """Folder of the panoptic PNGs; empty: the JSON's name without `.json`."""


class CocoConfig(Section):
    """A data set in COCO panoptic format."""

    train: CocoSplit
    """Split to train on."""
    val: CocoSplit
    """Split to evaluate on."""


class CityscapesConfig(Section):
    """Cityscapes as downloaded and unpacked."""

    root: str
    """Folder that holds `leftImg8bit` and `gtFine`."""


class SyntheticConfig(Section):
    """Street scenes that the program paints itself."""

    train_images: Positive = 400
    """Number of training scenes."""
    val_images: Positive = 60
    """Number of validation scenes."""
    height: Annotated[int, Field(ge=64, le=2048)] = 128
    """Image height in pixels."""
    width: Annotated[int, Field(ge=64, le=4096)] = 256
    """Image width in pixels."""
    max_instances: Annotated[int, Field(ge=0, le=100)] = 25
    """Largest number of countable objects in one scene."""
    seed: NonNegative = 1
    """Same seed, same bytes, on every machine."""


class DataConfig(Section):
    """What `prepare` turns into shards."""

    source: Literal["synthetic", "coco", "cityscapes"] = "synthetic"
    """Kind of source; its settings are in the section of the same name."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """Settings of the synthetic source."""
    coco: CocoConfig | None = None
    """Settings of the coco source."""
    cityscapes: CityscapesConfig | None = None
    """Settings of the cityscapes source."""
    shard_megabytes: Positive = 256
    """A shard is closed when it is larger than this."""

    @model_validator(mode="after")
    def _source_has_settings(self) -> DataConfig:
        if self.source == "coco" and self.coco is None:
            raise ValueError("source is 'coco', so data.coco.train and data.coco.val must be given")
        if self.source == "cityscapes" and self.cityscapes is None:
            raise ValueError("source is 'cityscapes', so data.cityscapes.root must be given")
        return self


class LoaderConfig(Section):
    """How training images reach the network (paper supplement 6.1)."""

    short_side: tuple[Positive, Positive] = (800, 800)
    """Range of the short side in pixels, drawn uniformly per image."""
    long_side: Positive = 1333
    """The long side never exceeds this, in pixels."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    images_per_worker: Positive = 1
    """Images per training process and iteration."""
    processes: NonNegative = 2
    """Loader processes per training process; 0 loads in the training process itself."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> LoaderConfig:
        if self.short_side[0] > self.short_side[1]:
            raise ValueError(f"short_side must be [smallest, largest], got {list(self.short_side)}")
        return self


class RpnConfig(Section):
    """Region proposal network, torchvision's names (UPSNet 3.2, Mask R-CNN)."""

    anchor_sizes: tuple[Positive, Positive, Positive, Positive, Positive] = (32, 64, 128, 256, 512)
    """Anchor side on P2..P6 in pixels."""
    aspect_ratios: tuple[PositiveFloat, ...] = Field((0.5, 1.0, 2.0), min_length=1)
    """Height / width of the anchors."""
    fg_iou_thresh: Fraction = 0.7
    """An anchor is positive from this IoU on."""
    bg_iou_thresh: Fraction = 0.3
    """An anchor is negative below this IoU."""
    batch_size_per_image: Positive = 256
    """Anchors sampled per image for the loss."""
    positive_fraction: Fraction = 0.5
    """Largest share of positives among them."""
    pre_nms_top_n: tuple[Positive, Positive] = (2000, 1000)
    """Proposals kept per level before NMS, in training and in testing."""
    post_nms_top_n: tuple[Positive, Positive] = (2000, 1000)
    """Proposals kept per image after NMS, in training and in testing."""
    nms_thresh: Fraction = 0.7
    """IoU above which the weaker of two proposals goes."""

    @model_validator(mode="after")
    def _thresholds_are_ordered(self) -> RpnConfig:
        if self.bg_iou_thresh > self.fg_iou_thresh:
            raise ValueError(
                f"bg_iou_thresh {self.bg_iou_thresh} must not exceed fg_iou_thresh {self.fg_iou_thresh}"
            )
        return self


class BoxHeadConfig(Section):
    """Box head (UPSNet 3.1, Mask R-CNN)."""

    channels: Positive = 1024
    """Width of the two fully connected layers."""
    fg_iou_thresh: Fraction = 0.5
    """A proposal is foreground from this IoU on, background below."""
    batch_size_per_image: Positive = 512
    """RoIs sampled per image for the loss."""
    positive_fraction: Fraction = 0.25
    """Largest share of foreground among them."""


class ModelConfig(Section):
    """The network (UPSNet 3.1, and the ones that the paper compares it with)."""

    network: Literal["upsnet", "mask_rcnn", "pspnet", "mr_cnn_psp"] = "upsnet"
    """UPSNet; its instance half alone; a PSPNet; or these two side by side, which are trained apart."""
    backbone: Literal["resnet18", "resnet50", "resnet101", "mobilenet_v2"] = "resnet50"
    """Backbone below the feature pyramid."""
    weights: str = "IMAGENET1K_V1"
    """`none`, the name of torchvision weights of the backbone, or the path of a file with its state dict."""
    detector_weights: str = "none"
    """`none`, or weights of torchvision's `maskrcnn_resnet50_fpn` for backbone, FPN and instance head, in the
    place of `weights`: `COCO_V1` (a download of 170 MB), or the path of a file with its state dict."""
    norm: Literal["frozen_batch", "batch", "group"] = "frozen_batch"
    """Normalisation in the backbone: the paper freezes it; `group` suits training from scratch."""
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = 2
    """Stages of the backbone that keep their weights; 2 means conv1 and res2."""
    deformable_stages: tuple[Literal[3, 4, 5], ...] = ()
    """ResNet stages whose 3x3 convolutions are deformable."""
    fpn_channels: Positive = 256
    """Channels of P2..P6."""
    global_context: bool = True
    """Adds the mean of res5 to the top of the pyramid (COCO only, paper 4.1)."""
    rpn: RpnConfig = RpnConfig()
    """Region proposal network."""
    box_head: BoxHeadConfig = BoxHeadConfig()
    """Box head."""
    mask_channels: Positive = 256
    """Channels of the mask head."""
    semantic_channels: tuple[Positive, ...] = Field((256, 128, 128), min_length=1)
    """Channels of the deformable layers of the semantic head: 3 layers on COCO, 2 on Cityscapes."""
    unknown: bool = True
    """Predict the unknown class (Table 6, row 6)."""
    unknown_fraction: Fraction = 0.3
    """Share of the instances that become unknown in panoptic training."""

    @model_validator(mode="after")
    def _detector_weights_fit(self) -> ModelConfig:
        if self.detector_weights == "none":
            return self
        if self.network not in ("upsnet", "mask_rcnn") or self.backbone != "resnet50":
            raise ValueError(
                "detector_weights fill a network upsnet or mask_rcnn on resnet50; "
                f"for {self.network} on {self.backbone} give detector_weights=none"
            )
        return self

    @model_validator(mode="after")
    def _stages_can_be_deformable(self) -> ModelConfig:
        stages = list(self.deformable_stages)
        if stages != sorted(set(stages)):
            raise ValueError(f"deformable_stages must rise, got {stages}")
        if stages and not self.backbone.startswith("resnet"):
            raise ValueError(f"deformable_stages need a ResNet; {self.backbone} allows only []")
        if stages and self.backbone == "resnet18":
            raise ValueError("deformable_stages need a ResNet with bottlenecks: resnet50 or resnet101")
        return self


class LossWeights(Section):
    """Factors of the losses: the eight of UPSNet 4.5, and PSPNet's auxiliary one."""

    rpn_objectness: NonNegativeFloat = 1.0
    """RPN, object or background."""
    rpn_box: NonNegativeFloat = 1.0
    """RPN, box regression."""
    box_class: NonNegativeFloat = 1.0
    """Box head, class."""
    box_regression: NonNegativeFloat = 1.0
    """Box head, box regression."""
    mask: NonNegativeFloat = 1.0
    """Mask head."""
    semantic: NonNegativeFloat = 0.2
    """Semantic head, whole image."""
    semantic_roi: NonNegativeFloat = 0.04
    """Semantic head inside the gt boxes: a fifth of the semantic weight; 0 leaves it out."""
    panoptic: NonNegativeFloat = 0.1
    """Panoptic head; 0 leaves it out."""
    auxiliary: NonNegativeFloat = 0.4
    """PSPNet only: the auxiliary classifier on res4, besides a semantic weight of 1."""


class TrainingConfig(Section):
    """Optimisation (UPSNet 3.2 and 6.1). Rate and iterations are for `reference_batch` images per step.

    With another number of workers the linear rule holds: rate times, iterations divided by batch / reference.
    """

    reference_batch: Positive = 16
    """Images per step that the numbers below are meant for."""
    base_rate: PositiveFloat = 0.02
    """Learning rate after the warm-up."""
    iterations: Positive = 90_000
    """Length of the training."""
    schedule: Literal["steps", "poly"] = "steps"
    """The rate falls at `steps`, or as (1 - iteration / iterations) to the power `poly_power` (PSPNet)."""
    poly_power: PositiveFloat = 0.9
    """Exponent of the poly schedule."""
    steps: tuple[Positive, ...] = (60_000, 80_000)
    """Iterations at which the rate is multiplied by `step_factor`."""
    step_factor: Fraction = 0.1
    """Factor of the rate at every step."""
    warmup_iterations: NonNegative = 1500
    """The rate grows linearly over these first iterations."""
    warmup_factor: Fraction = 0.1
    """Rate at iteration 0 as a fraction of `base_rate`."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """The paper's SGD with momentum, or AdamW, which learns faster without starting weights."""
    momentum: Fraction = 0.9
    """SGD momentum; AdamW keeps torch's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of the weights; biases and norm layers have none."""
    bias_rate_factor: PositiveFloat = 2.0
    """Biases learn at this multiple of the rate."""
    losses: LossWeights = LossWeights()
    """Factors of the losses."""
    semantic_loss_stride: Literal[1, 4] = 1
    """Semantic loss on logits upsampled to the input size (1) or at a quarter of it (4)."""
    bf16: bool = False
    """Autocast to bfloat16."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    log_interval: Positive = 20
    """Iterations between two log lines."""
    checkpoint_interval: Positive = 5000
    """Iterations between two checkpoints."""
    keep_checkpoints: Positive = 3
    """Newest checkpoints kept, besides the best."""
    evaluation_interval: NonNegative = 0
    """Iterations between two evaluations that decide which checkpoint is the best; 0: none is."""
    evaluation_images: Positive = 100
    """Validation images of such an evaluation."""

    @model_validator(mode="after")
    def _steps_rise(self) -> TrainingConfig:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must rise, got {list(self.steps)}")
        return self


class InferenceConfig(Section):
    """From network output to panoptic map (UPSNet 3.2 and 4)."""

    short_side: Positive = 800
    """Short side of the input in pixels."""
    long_side: Positive = 1333
    """The long side never exceeds this, in pixels."""
    score_thresh: Fraction = 0.05
    """Detections below this class score are dropped."""
    nms_thresh: Fraction = 0.5
    """IoU of the per-class NMS."""
    detections_per_img: Positive = 100
    """Detections kept per image."""
    panoptic_nms_thresh: Fraction = 0.5
    """IoU of the class-agnostic NMS before the panoptic head."""
    panoptic_score_thresh: Fraction = 0.6
    """Only detections above this score reach the panoptic head."""
    overlap_thresh: Fraction = 0.3
    """A mask goes when more than this share of it is covered by better ones of its class."""
    class_assignment: Literal["mode", "instance"] = "mode"
    """Class of an instance: by the semantic mode (paper) or always the detection's (Table 6, rows 1-2)."""
    mode_frequency: Fraction = 0.5
    """The mode must be more frequent than this to turn an instance into stuff."""
    stuff_area: NonNegative = 4096
    """Stuff classes with fewer pixels in an image become void, at the original size."""
    merge: Literal["panoptic", "heuristic"] = "panoptic"
    """The panoptic head, or the heuristic of Kirillov et al. that merges semantics and instances."""
    heuristic_score_thresh: Fraction = 0.5
    """The heuristic drops detections below this score."""
    heuristic_overlap_thresh: Fraction = 0.5
    """The heuristic drops a mask when more than this share of it is covered by better ones of any class."""
    scales: tuple[Positive, ...] = ()
    """Short sides over which the semantic logits are averaged (multi-scale test); empty: no average."""
    mirror: bool = False
    """Average over the mirror images, too."""
    window: NonNegative = 0
    """PSPNet only: side of the sliding window of the multi-scale test, in pixels; 0: the whole image."""


class EvaluationConfig(Section):
    """What `evaluate` writes besides the metrics."""

    max_images: NonNegative = 0
    """Evaluate only the first images of the validation set; 0: all."""
    strips: NonNegative = 8
    """Number of image | truth | prediction strips."""
    gt_boxes: bool = False
    """Oracle: the boxes of the instances are the true ones (Table 6, row 7)."""
    gt_classes: bool = False
    """Oracle: the classes of the instances are the true ones (Table 6, row 8, on top of `gt_boxes`)."""
    gt_semantic: bool = False
    """Oracle: the semantic logits say the truth (Table 6, row 9)."""


class TrackingConfig(Section):
    """Where the figures go. JSON lines are always written."""

    mlflow: bool = True
    """Log to MLflow: `MLFLOW_TRACKING_URI`, or SQLite in the working folder."""
    experiment: str = "upsnet"
    """MLflow experiment; `MLFLOW_EXPERIMENT_NAME` goes before it."""


class Config(Section):
    """The whole configuration."""

    preset: str = ""
    """Preset the configuration was made from."""
    variant: str = ""
    """Variants on top of it, joined by `+`."""
    seed: NonNegative = 1
    """Fixes weights, data order and augmentation."""
    data: DataConfig = DataConfig()
    """What `prepare` reads."""
    loader: LoaderConfig = LoaderConfig()
    """How images reach the network in training."""
    model: ModelConfig = ModelConfig()
    """The network."""
    training: TrainingConfig = TrainingConfig()
    """Optimisation."""
    inference: InferenceConfig = InferenceConfig()
    """From network output to panoptic map."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What `evaluate` writes."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the figures go."""

    @model_validator(mode="after")
    def _network_has_what_is_asked(self) -> Config:
        network = self.model.network
        if network != "upsnet" and self.inference.merge != "heuristic":
            raise ValueError(
                f"model.network {network} has no panoptic head: inference.merge must be heuristic"
            )
        if network == "mask_rcnn" and self.training.evaluation_interval:
            raise ValueError(
                "model.network mask_rcnn cannot be evaluated alone: training.evaluation_interval must be 0"
            )
        if network == "pspnet" and self.model.norm == "batch" and self.loader.images_per_worker == 1:
            raise ValueError(
                "model.network pspnet pools an image to one pixel, which batch norm cannot normalise: with "
                "model.norm batch, loader.images_per_worker must be 2 or more"
            )
        return self


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in CONFIGS_DIR.glob("*.yaml"))


def variant_names() -> list[str]:
    """Names of the shipped variants."""
    return sorted(path.stem for path in (CONFIGS_DIR / "variants").glob("*.yaml"))


def load_config(preset: str, variants: Sequence[str] = (), overrides: Sequence[str] = ()) -> Config:
    """Joins defaults, preset, variants and overrides.

    Args:
        preset: name of a shipped preset, or the path of a YAML file.
        variants: names of shipped variants or paths, applied in order.
        overrides: `section.key=value` strings, the value in YAML.

    Raises:
        ConfigError: an unknown name, key or value; the message names the key's path, what was given and what
            is allowed.
    """
    try:
        layers = list(_preset_layers(preset, CONFIGS_DIR, preset_names(), "preset"))
        for variant in variants:
            layers += _preset_layers(variant, CONFIGS_DIR / "variants", variant_names(), "variant")
        layers += [OmegaConf.from_dotlist([_checked_override(text)]) for text in overrides]
        values = OmegaConf.to_container(OmegaConf.merge({}, *layers), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"configuration: {str(error).strip()}") from error
    names = {"preset": Path(preset).stem, "variant": "+".join(Path(v).stem for v in variants)}
    assert isinstance(values, dict)
    return _validated({**{str(key): value for key, value in values.items()}, **names}, f"preset {preset!r}")


def read_config(path: Path) -> Config:
    """Reads a resolved `config.yaml`.

    Raises:
        ConfigError: the file is missing, is not YAML, is not resolved, or has an unknown key or bad value.
    """
    values = _read_yaml(path)
    missing = [name for name in Config.model_fields if name not in values]
    if missing:
        raise ConfigError(
            f"{path}: is no resolved configuration, {', '.join(missing)} missing; "
            "make one with 'upsnet configure'"
        )
    return _validated(values, str(path))


def to_yaml(config: Config) -> str:
    """The text of a resolved `config.yaml`."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def manual() -> str:
    """The reference manual of every key: its path, type, default and meaning."""
    lines = ["# Every key, its type, default and meaning"]
    for path, annotation, default, description in _fields(Config, ""):
        lines += ["", f"{path}: {annotation} = {default}", f"    {description}"]
    return "\n".join(lines)


def _preset_layers(
    name: str, folder: Path, known: list[str], kind: str, above: tuple[Path, ...] = ()
) -> Iterator[Any]:
    """Yields the layers of a preset or variant file, its `base:` first; `above` are the files based on it."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{kind} {name!r}: no such {kind}; known are {', '.join(known)}, or give the path of a YAML file"
        )
    if path in above:
        raise ConfigError(f"{above[-1]}: base: {name} is based on this file itself; name another {kind}")
    values = _read_yaml(path)
    base = values.pop("base", None)
    if base is not None:
        yield from _preset_layers(str(base), folder, known, kind, (*above, path))
    yield OmegaConf.create(values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); make it with 'upsnet configure'"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections with keys, found {type(values).__name__}")
    return values


def _checked_override(text: str) -> str:
    if "=" not in text or text.startswith("="):
        raise ConfigError(
            f"override {text!r}: expected section.key=value, for example training.iterations=100"
        )
    return text


def _validated(values: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"configuration ({where}):\n" + "\n".join(f"  {line}" for line in lines)) from error


def _explain(problem: Any) -> str:
    """One line per pydantic error: the key's path, what was given, what is allowed."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key; allowed here: {', '.join(_siblings(problem['loc']))}"
    given = problem["input"]
    message = problem["msg"].removeprefix("Value error, ")
    return f"{path}: {message} (given: {given!r})" if not isinstance(given, dict) else f"{path}: {message}"


def _siblings(location: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        nested = _section_of(field.annotation) if field else None
        if nested is None:
            break
        section = nested
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[Section] | None:
    """The section class in an annotation such as `CocoConfig | None`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def _fields(section: type[Section], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        nested = _section_of(field.annotation)
        if nested is not None:
            yield from _fields(nested, f"{path}.")
            continue
        limits = ", ".join(str(limit) for limit in field.metadata)
        kind = str(getattr(field.annotation, "__name__", field.annotation)).replace("typing.", "")
        if "[" in str(field.annotation):
            kind = str(field.annotation).replace("typing.", "")
        default = "(required)" if field.is_required() else repr(field.default)
        yield path, f"{kind} {limits}".strip(), default, field.description or ""
