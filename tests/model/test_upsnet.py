"""The whole network: size, losses, gradients and the unusual images."""

import pytest
import torch

from tests.model.cases import ALL_LOSSES, EIGHT_LOSSES, mini_config, mini_model, random_images, targets_with
from upsnet.config import LossWeights, ModelConfig, load_config
from upsnet.model.build import build_model
from upsnet.model.network import count_parameters

CROWDED = [(x, y, x + 4, y + 4) for y in range(0, 64, 4) for x in range(0, 96, 4)][:300]

IMAGES = {
    "no instance": ([], {}),
    "two instances": ([(5, 10, 40, 50), (50, 20, 90, 60)], {}),
    "one pixel": ([(30, 30, 31, 31)], {}),
    "boxes at the border": ([(0, 0, 96, 64)], {}),
    "a corner": ([(95, 63, 96, 64)], {}),
    "300 instances": (CROWDED, {}),
    "no stuff classes": ([(5, 10, 40, 50)], {"num_stuff": 0}),
    "no stuff and no instance": ([], {"num_stuff": 0}),
    "no thing classes": ([], {"num_things": 0}),
}


def test_upsnet_50_for_coco_has_the_paper_s_parameters():
    config = ModelConfig(weights="none")
    model = build_model(config, 53, 80)
    assert count_parameters(model) == 46_129_904
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 45_854_384


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("cityscapes_r50", 44_527_804),
        ("cityscapes_r50_coco", 44_527_804),
        ("cityscapes_r101_coco", 63_519_932),
    ],
)
def test_the_cityscapes_presets_have_the_paper_s_parameters(preset, count):
    config = load_config(preset).model.model_copy(update={"weights": "none"})
    assert count_parameters(build_model(config, 11, 8)) == count


def test_upsnet_101_with_deformable_stages_has_the_paper_s_parameters():
    config = load_config("coco_r101_dcn").model.model_copy(update={"weights": "none"})
    assert count_parameters(build_model(config, 53, 80)) == 66_408_204


@pytest.mark.parametrize("case", IMAGES)
def test_every_kind_of_image_gives_finite_losses_and_gradients(case):
    windows, classes = IMAGES[case]
    model = mini_model(**classes).train()
    losses = model.losses(random_images((64, 96)), [targets_with(windows, **classes)], ALL_LOSSES, 1)
    assert set(losses) == EIGHT_LOSSES
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values()), losses
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("case", IMAGES)
def test_every_kind_of_image_can_be_predicted(case):
    model = mini_model(**IMAGES[case][1]).eval()
    settings = load_config("mini").inference
    (output,) = model.predict(random_images((61, 90)), settings)
    assert output.semantic_logits.shape == (model.num_stuff + model.num_things, 16, 24)
    assert output.size == (61, 90)
    assert output.detections.mask_logits.shape == (len(output.detections), 28, 28)


def test_every_trained_parameter_gets_a_gradient_that_is_not_zero():
    model = mini_model().train()
    images = random_images((64, 96), (64, 64))
    targets = [
        targets_with([(5, 10, 40, 50), (50, 20, 90, 60), (10, 52, 30, 62)]),
        targets_with([(5, 10, 40, 50)], (64, 64)),
    ]
    losses = model.losses(images, targets, ALL_LOSSES, 1)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_frozen_stages_get_no_gradient_and_keep_their_statistics():
    model = mini_model(backbone="resnet50", norm="batch", frozen_stages=2).train()
    before = {k: v.clone() for k, v in model.backbone.stages[1].state_dict().items()}
    later = model.backbone.stages[2].state_dict()["0.bn1.running_mean"].clone()
    model.losses(random_images((64, 96)), [targets_with([])], ALL_LOSSES, 4)["semantic"].backward()
    assert all(p.grad is None for p in model.backbone.stages[0].parameters())
    assert all(torch.equal(before[k], v) for k, v in model.backbone.stages[1].state_dict().items())
    assert not torch.equal(later, model.backbone.stages[2].state_dict()["0.bn1.running_mean"])


def test_losses_of_weight_zero_are_left_out():
    model = mini_model().train()
    weights = LossWeights(semantic_roi=0.0, panoptic=0.0)
    losses = model.losses(random_images((64, 96)), [targets_with([(5, 10, 40, 50)])], weights, 1)
    assert set(losses) == EIGHT_LOSSES - {"semantic_roi", "panoptic"}


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("norm", ["frozen_batch", "batch", "group"])
def test_backbones_give_strides_4_to_32_with_every_norm(backbone, norm):
    model = mini_model(backbone=backbone, norm=norm).eval()
    maps = model.backbone(torch.zeros(1, 3, 64, 96))
    assert [m.shape[-2:] for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(m.shape[1] for m in maps) == model.backbone.channels


def test_deformable_stages_start_as_ordinary_convolutions():
    torch.manual_seed(3)
    plain = build_model(mini_config(backbone="resnet50", norm="batch"), 4, 3).backbone.eval()
    torch.manual_seed(3)
    deformable = build_model(
        mini_config(backbone="resnet50", norm="batch", deformable_stages=(3, 4, 5)), 4, 3
    ).backbone.eval()
    state = plain.state_dict()
    renamed = {k: state[k.replace(".conv2.conv.", ".conv2.")] for k in deformable.state_dict()
               if ".offset." not in k}  # fmt: skip
    deformable.load_state_dict(renamed, strict=False)
    image = torch.randn(1, 3, 64, 64)
    for a, b in zip(plain(image), deformable(image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_leaves_boxes_alone():
    """bfloat16 knows no 1025 and 1028, only 1024 and 1032: a thin box would lose its width."""
    model = mini_model().train()
    targets = [targets_with([(1025, 10, 1028, 60)], (64, 1056))]
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(random_images((64, 1056)), targets, ALL_LOSSES, 4)
    assert all(loss.isfinite() for loss in losses.values()), losses
