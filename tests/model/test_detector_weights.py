"""Starting weights from torchvision's Mask R-CNN: the same tensors, the same features, rows by class name."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from tests.data.tiny import prepared_sizes
from tests.model.cases import random_images
from upsnet.config import ModelConfig, load_config
from upsnet.errors import CheckpointError
from upsnet.model import detector_weights
from upsnet.model.build import build_model
from upsnet.model.detector_weights import WeightsReport, coco_thing_names, is_at_hand, load_detector_weights
from upsnet.model.network import Network
from upsnet.training.trainer import start_state

HEAD = "instance_head.roi_heads."
R50 = ModelConfig(weights="none")


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    """torchvision's network with random weights, and norms that do something."""
    torch.manual_seed(1)
    net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def weights(detector: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(detector.state_dict(), path)
    yield path
    path.unlink()  # 180 MB


def _filled(
    weights: Path, thing_names: list[str] | None = None, **changes: object
) -> tuple[Network, WeightsReport]:
    torch.manual_seed(2)
    names = coco_thing_names() if thing_names is None else thing_names
    model = build_model(R50.model_copy(update=changes), 4, len(names)).eval()
    return model, load_detector_weights(model, str(weights), names)


@pytest.fixture(scope="module")
def coco_model(weights: Path) -> tuple[Network, WeightsReport]:
    return _filled(weights)


def test_every_shared_tensor_equals_its_source(
    coco_model: tuple[Network, WeightsReport], detector: torch.nn.Module
) -> None:
    model, report = coco_model
    ours, theirs = model.state_dict(), detector.state_dict()
    pairs = {
        "backbone.stages.0.0.weight": "backbone.body.conv1.weight",
        "backbone.stages.0.1.running_var": "backbone.body.bn1.running_var",
        "backbone.stages.4.2.conv3.weight": "backbone.body.layer4.2.conv3.weight",
        "fpn.inner_blocks.3.0.weight": "backbone.fpn.inner_blocks.3.0.weight",
        "instance_head.rpn.head.conv.0.0.bias": "rpn.head.conv.0.0.bias",
        f"{HEAD}box_head.fc6.weight": "roi_heads.box_head.fc6.weight",
        f"{HEAD}mask_predictor.conv5_mask.weight": "roi_heads.mask_predictor.conv5_mask.weight",
    }
    for key, source in pairs.items():
        torch.testing.assert_close(ours[key], theirs[source], rtol=0, atol=0)
    alone = {key for key in ours if not key.startswith(("semantic_head.", "fpn.context."))}
    assert set(report.filled) == alone
    # Every source tensor has been used once: same shapes, same values, class rows aside.
    class_heads = {key for key in theirs if "predictor" in key and "conv5" not in key}
    sums = sorted(
        round(value.double().sum().item(), 6)
        for key, value in theirs.items()
        if key not in class_heads and "num_batches" not in key
    )
    assert sums == sorted(
        round(ours[key].double().sum().item(), 6)
        for key in alone
        if key.removeprefix("instance_head.") not in class_heads
    )


def test_pyramid_and_rpn_are_those_of_torchvision(
    coco_model: tuple[Network, WeightsReport], detector: torch.nn.Module
) -> None:
    model, images = coco_model[0], random_images((64, 96))
    with torch.inference_mode():
        pixels = model.normalised(images)
        pyramid = model.fpn(model.backbone(pixels))
        expected = list(detector.backbone(pixels).values())
        outputs = model.instance_head.rpn.head(pyramid)
        expected_outputs = detector.rpn.head(expected)
    assert [level.shape for level in pyramid] == [level.shape for level in expected]
    for level, truth in zip(pyramid, expected, strict=True):
        torch.testing.assert_close(level, truth, rtol=1e-4, atol=1e-4 * truth.abs().max().item())
    for levels, truths in zip(outputs, expected_outputs, strict=True):
        for level, truth in zip(levels, truths, strict=True):
            torch.testing.assert_close(level, truth, rtol=1e-4, atol=1e-4 * truth.abs().max().item())


def test_all_classes_of_coco_find_their_rows(
    coco_model: tuple[Network, WeightsReport], detector: torch.nn.Module
) -> None:
    model, theirs = coco_model[0].state_dict(), detector.state_dict()
    rows = [0, *(i for i, name in enumerate(detector_weights._coco_names()) if name)]
    assert len(rows) == 81
    assert (rows[1], rows[12], rows[80]) == (1, 13, 90)  # person, stop sign behind an unused id, toothbrush
    for head in ("box_predictor.cls_score", "mask_predictor.mask_fcn_logits"):
        for kind in ("weight", "bias"):
            expected = theirs[f"roi_heads.{head}.{kind}"][rows]
            torch.testing.assert_close(model[f"{HEAD}{head}.{kind}"], expected, rtol=0, atol=0)
    deltas = theirs["roi_heads.box_predictor.bbox_pred.weight"].view(91, 4, -1)[rows].flatten(0, 1)
    torch.testing.assert_close(model[f"{HEAD}box_predictor.bbox_pred.weight"], deltas, rtol=0, atol=0)


def test_own_classes_take_the_rows_of_their_names_and_the_others_are_random(
    weights: Path, detector: torch.nn.Module
) -> None:
    model, report = _filled(weights, ["yeti", "Car", "person"], network="mask_rcnn")
    key = "box_predictor.cls_score.weight"
    ours, theirs = model.state_dict()[HEAD + key], detector.state_dict()["roi_heads." + key]
    torch.testing.assert_close(ours[[0, 2, 3]], theirs[[0, 3, 1]], rtol=0, atol=0)
    assert not (ours[1] == theirs).all(dim=1).any()
    assert 0.8 < ours[1].std() / theirs.std() < 1.2
    assert "thing classes: 2 of 3 found by name" in str(report)
    assert str(report).endswith("spread like the others: yeti")


def test_deformable_stages_take_the_weights_and_start_as_plain_convolutions(
    weights: Path, detector: torch.nn.Module
) -> None:
    model, report = _filled(weights, ["car"], deformable_stages=(3, 5), network="mask_rcnn")
    theirs = detector.state_dict()
    for stage in (3, 5):
        block = model.backbone.stages[stage - 1][0].conv2
        source = theirs[f"backbone.body.layer{stage - 1}.0.conv2.weight"]
        torch.testing.assert_close(block.conv.weight.detach(), source, rtol=0, atol=0)
        assert not block.offset.weight.any()
    assert "backbone: offsets of deformable convolutions: no counterpart" in str(report)
    pixels = model.normalised(random_images((64, 96)))
    with torch.inference_mode():
        top, expected = model.backbone(pixels)[-1], detector.backbone.body(pixels)["3"]
    torch.testing.assert_close(top, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_the_report_tells_every_part_calmly(coco_model: tuple[Network, WeightsReport], weights: Path) -> None:
    assert str(coco_model[1]).splitlines() == [
        f"starting weights: {weights}",
        "  backbone: filled, 265 tensors, in the place of model.weights",
        "  FPN: filled, 16 tensors",
        "  FPN: global context: no counterpart; starts at zero, so that the pyramid is the file's",
        "  RPN: filled, 6 tensors",
        "  box head: filled, 8 tensors",
        "  mask head: filled, 12 tensors",
        "  semantic head: no counterpart; starts at random",
        "  thing classes: 80 of 80 found by name",
    ]


def test_parts_of_another_size_stay_at_random_and_are_named(weights: Path) -> None:
    report = str(_filled(weights, ["car"], mask_channels=8, network="mask_rcnn")[1])
    assert "  mask head: 11 tensors (instance_head.roi_heads.mask_head.0.0.weight, ...) of another" in report


def test_former_names_of_torchvision_are_understood(detector: torch.nn.Module, tmp_path: Path) -> None:
    state = detector.state_dict()
    former = {_former_name(key): value for key, value in state.items() if "num_batches" not in key}
    assert {"backbone.fpn.inner_blocks.0.weight", "rpn.head.conv.weight"} <= former.keys()
    torch.save(former, tmp_path / "former.pth")
    read = detector_weights._read_detector(str(tmp_path / "former.pth"))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state if "num_batches" not in key)


def _former_name(key: str) -> str:
    key = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", key)
    key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)


def test_a_file_of_unnamed_classes_fills_all_but_the_class_rows(
    detector: torch.nn.Module, tmp_path: Path
) -> None:
    theirs = detector.state_dict()
    for key in [key for key in theirs if "predictor" in key and "conv5" not in key]:
        theirs[key] = theirs[key][: 12 if "bbox" in key else 3].clone()
    torch.save(theirs, tmp_path / "own.pth")
    model, report = _filled(tmp_path / "own.pth", ["person"], network="mask_rcnn")
    assert "the file has 3 rows and does not name them" in str(report)
    key = "box_predictor.cls_score.weight"
    ours = model.state_dict()[HEAD + key]
    torch.testing.assert_close(ours[0], theirs["roi_heads." + key][0], rtol=0, atol=0)  # the background


@pytest.mark.parametrize("content", ["text", "list", "resnet", "other"])
def test_another_file_is_refused_with_one_message(content: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    if content == "text":
        path.write_text("hello")
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "resnet":
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    else:
        key = "roi_heads.box_predictor.cls_score.weight"
        torch.save({key: torch.zeros(91, 1024), "box.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"model\.detector_weights .*other\.pth"):
        _filled(path, ["car"])


@pytest.mark.parametrize("name", ["COCO_V9", "no/such/file.pth"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file, and maskrcnn_resnet50_fpn has COCO_V1"):
        _filled(Path(name), ["car"])
    assert not is_at_hand(name)


def test_detector_weights_need_resnet50_and_an_instance_head() -> None:
    for changes in ({"backbone": "resnet101"}, {"network": "pspnet"}, {"network": "mr_cnn_psp"}):
        with pytest.raises(ValueError, match="give detector_weights=none"):
            ModelConfig(detector_weights="COCO_V1", **changes)


def test_the_released_weights_keep_their_features_under_our_epsilon() -> None:
    """torchvision runs them with norms of epsilon 0; ours add 1e-5 to the variance."""
    torch.manual_seed(0)
    model = build_model(R50.model_copy(update={"network": "mask_rcnn"}), 0, 1)
    norm = model.backbone.stages[0][1]
    assert isinstance(norm, FrozenBatchNorm2d)
    source = {"bn.running_var": torch.logspace(-8, 1, 64), "bn.weight": torch.rand(64) + 0.5}
    plain = FrozenBatchNorm2d(64, eps=0.0)
    plain.weight.copy_(source["bn.weight"])
    plain.running_var.copy_(source["bn.running_var"])
    detector_weights._work_epsilon_in(source, model)
    norm.weight.copy_(source["bn.weight"])
    norm.running_var.copy_(source["bn.running_var"])
    features = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(norm(features), plain(features), rtol=1e-5, atol=0)


def test_a_training_starts_from_them_and_says_so(
    weights: Path, detector: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = prepared_sizes(tmp_path / "prepared", [(64, 96)])
    overrides = [f"model.detector_weights={weights}", "model.weights=/is/not/read.pth"]
    config = load_config("coco_r50", overrides=overrides)
    with caplog.at_level(logging.INFO, "upsnet"):
        state = start_state(config, data, torch.device("cpu"))
    assert f"starting weights: {weights}" in caplog.text
    key = "box_head.fc7.weight"
    ours, theirs = state.model.state_dict()[HEAD + key], detector.state_dict()["roi_heads." + key]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    names = data.categories.names[data.categories.num_stuff :]
    matched = [(label, name) for label, name in enumerate(names, 1) if name in coco_thing_names()]
    assert matched
    bias = state.model.state_dict()[f"{HEAD}box_predictor.cls_score.bias"]
    for label, name in matched:
        row = detector_weights._coco_names().index(name)
        assert bias[label] == detector.state_dict()["roi_heads.box_predictor.cls_score.bias"][row]
