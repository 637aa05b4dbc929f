"""What is measured: UPSNet and MR-CNN-PSP at the image sizes of the paper, or at others.

Source: UPSNet 4.4, Table 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from upsnet.config import Config, load_config
from upsnet.errors import UpsnetError
from upsnet.model.summary import network_parts, total
from upsnet.structures import Size

UPSNET, COMBINED, COMBINED_OWN_SIZE = "UPSNet", "MR-CNN-PSP", "MR-CNN-PSP*"
"""The systems. With the star, the PSPNet sees the image at its own size, as in the paper's COCO column."""


@dataclass(frozen=True)
class Shape:
    """What decides a network's shape: a preset and the numbers of classes."""

    preset: str
    num_stuff: int
    num_things: int


COCO_SHAPE = Shape("coco_r50", 53, 80)

PAPER_SHAPES = {
    (800, 1300): COCO_SHAPE,
    (1024, 2048): Shape("cityscapes_r50", 11, 8),
    (1200, 1920): Shape("cityscapes_r50", 17, 10),  # the authors' own data set
}
"""Image sizes of Table 5; another size is measured with the shape of COCO."""

SMALLEST = 32
"""Side of the smallest image, in pixels."""

OWN_SIZES = {(800, 1300): (394, 640)}
"""The size of a COCO image before it is enlarged to that of the table."""


@dataclass(frozen=True)
class Repeats:
    """Runs that are averaged, after at least one that is not."""

    runs: int
    warm_up: int

    @property
    def all(self) -> int:
        return self.warm_up + self.runs


GPU_REPEATS, CPU_REPEATS, SLOW_REPEATS = Repeats(100, 10), Repeats(3, 1), Repeats(2, 1)
"""By default: as in the paper, and on a CPU so few that Table 5 takes some ten minutes on two cores."""

SLOW_GFLOPS = 2000
"""A network with more is slow on a CPU: half a minute per run on two cores."""


@dataclass(frozen=True)
class Case:
    """One system at one size, measured in one process.

    Attributes:
        size: of the image before padding.
        semantic_size: what the PSPNet sees and the heuristic merges, where it is not `size`.
        instances: post-processing is measured with each of these numbers of instances.
        device: a torch device.
        gflops: of the network.
    """

    system: str
    shape: Shape
    config: Config
    size: Size
    semantic_size: Size | None
    instances: tuple[int, ...]
    repeats: Repeats
    device: str
    gflops: float

    def title(self) -> str:
        return f"{self.system} at {self.size[0]}x{self.size[1]}"


def make_cases(
    sizes: Sequence[Size],
    instances: Sequence[int],
    device: str,
    runs: int | None = None,
    warm_up: int | None = None,
    shape: Shape | None = None,
) -> list[Case]:
    """The systems at every size.

    Args:
        sizes: of the images before padding.
        instances: numbers of instances for post-processing.
        device: a torch device that everything runs on.
        runs: that are averaged; None: 100 on a GPU, 3 or 2 on a CPU.
        warm_up: runs before them, at least 1; None: 10 on a GPU, 1 on a CPU.
        shape: of the networks; None: the one that Table 5 has at that size.

    Raises:
        ConfigError: an unknown preset.
        UpsnetError: the preset is not that of a UPSNet, or has no thing classes for the instances.
    """
    cases = []
    for size in sizes:
        here = shape or PAPER_SHAPES.get(size, COCO_SHAPE)
        for system, own in _systems(size, shape):
            config = _config(system, here, max(instances))
            gflops = _gflops(config, here, size, own)
            repeats = _repeats(device, gflops, runs, warm_up)
            cases.append(Case(system, here, config, size, own, tuple(instances), repeats, device, gflops))
    return cases


def parse_sizes(text: str) -> list[Size]:
    """Sizes from "800x1300,1024x2048", height first, each once.

    Raises:
        UpsnetError: the text is something else.
    """
    parts = [part.strip().split("x") for part in text.split(",")]
    if not all(
        len(part) == 2 and all(side.isdecimal() and int(side) >= SMALLEST for side in part) for part in parts
    ):
        raise UpsnetError(
            f"--sizes {text}: expected height x width in pixels, at least {SMALLEST} each, with commas "
            "between, such as 800x1300,1024x2048"
        )
    return list(dict.fromkeys((int(height), int(width)) for height, width in parts))


def parse_counts(text: str) -> list[int]:
    """Numbers of instances from "0,10,50", ascending, each once.

    Raises:
        UpsnetError: the text is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UpsnetError(f"--instances {text}: expected whole numbers with commas between, such as 0,10,50")
    return sorted(set(map(int, parts)))


def _repeats(device: str, gflops: float, runs: int | None, warm_up: int | None) -> Repeats:
    if not device.startswith("cpu"):
        default = GPU_REPEATS
    else:
        default = CPU_REPEATS if gflops < SLOW_GFLOPS else SLOW_REPEATS
    return Repeats(runs or default.runs, warm_up or default.warm_up)


def _systems(size: Size, shape: Shape | None) -> Iterator[tuple[str, Size | None]]:
    yield UPSNET, None
    yield COMBINED, None
    if shape is None and size in OWN_SIZES:
        yield COMBINED_OWN_SIZE, OWN_SIZES[size]


def _config(system: str, shape: Shape, instances: int) -> Config:
    if instances and not shape.num_things:
        raise UpsnetError(
            f"benchmark: {instances} instances, but preset {shape.preset} has no thing classes; "
            "give --instances 0"
        )
    plain = load_config(shape.preset, [], ["model.weights=none"])
    if (plain.model.network, plain.inference.merge) != ("upsnet", "panoptic"):
        raise UpsnetError(
            f"benchmark: preset {shape.preset} has model.network={plain.model.network} and "
            f"inference.merge={plain.inference.merge}; name that of a UPSNet, such as coco_r50"
        )
    return plain if system == UPSNET else load_config(shape.preset, ["mr_cnn_psp"], ["model.weights=none"])


def _gflops(config: Config, shape: Shape, size: Size, semantic_size: Size | None) -> float:
    parts = network_parts(config, shape.num_stuff, shape.num_things, size)
    if semantic_size is not None:
        own = network_parts(config, shape.num_stuff, shape.num_things, semantic_size)
        parts = [b if b.name.startswith("semantics.") else a for a, b in zip(parts, own, strict=True)]
    return total(parts).flops / 1e9
