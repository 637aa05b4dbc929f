"""PSPNet: size, output stride, dilation, gradients and the unusual images."""

import pytest
import torch
import torchvision

from tests.model.cases import mini_config, mini_model, random_images, targets_with
from upsnet.config import LossWeights, load_config
from upsnet.errors import ConfigError
from upsnet.model.backbone import build_backbone
from upsnet.model.build import build_model
from upsnet.model.network import count_parameters
from upsnet.model.pspnet import PSPNet, PyramidPooling, dilate
from upsnet.structures import GivenInstances

BACKBONES = ["resnet18", "resnet50", "resnet101", "mobilenet_v2"]
NORMS = ["frozen_batch", "batch", "group"]
BATCH_AND_GROUP = [(b, norm) for b in ("resnet18", "mobilenet_v2") for norm in ("batch", "group")]
LOSSES = LossWeights(semantic=1.0)
SETTINGS = load_config("mini").inference


def pspnet(num_stuff: int = 4, num_things: int = 3, **changes) -> PSPNet:
    return mini_model(num_stuff, num_things, network="pspnet", **changes)


def with_random_statistics(module: torch.nn.Module) -> torch.nn.Module:
    """Frozen batch norm as after a training: mean 0 and variance 1 would hide a wrong order."""
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "bias")):
            buffer.normal_(std=0.1)
        elif name.endswith(("running_var", "weight")):
            buffer.uniform_(0.8, 1.2)
    return module


def test_mask_rcnn_and_pspnet_for_coco_have_the_paper_s_parameters():
    config = load_config("coco_r50", ["mr_cnn_psp"]).model.model_copy(update={"weights": "none"})
    pair = build_model(config, 53, 80)
    auxiliary = count_parameters(pair.semantics.auxiliary)
    assert count_parameters(pair.instances) == 44_925_237
    assert count_parameters(pair.semantics) - auxiliary == 46_650_053
    assert count_parameters(pair) - auxiliary == 91_575_290  # the paper's 91.6 M
    assert auxiliary == 9 * 1024 * 256 + 2 * 256 + 256 * 133 + 133


def test_dilation_is_that_of_torchvision_for_a_resnet_with_bottlenecks():
    torch.manual_seed(0)
    ours = pspnet(backbone="resnet50", norm="batch").eval().backbone
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    names = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    inside = ["stages.0.0", "stages.0.1", *(f"stages.{i}" for i in (1, 2, 3, 4))]
    state = ours.state_dict()
    for name, ours_name in zip(names, inside, strict=True):
        part = {k.removeprefix(ours_name + "."): v for k, v in state.items() if k.startswith(ours_name + ".")}
        getattr(theirs, name).load_state_dict(part)
    image = torch.randn(1, 3, 64, 96)
    features = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    for name, expected in zip(names[2:], ours(image), strict=True):
        features = getattr(theirs, name)(features)
        assert torch.equal(features, expected), name


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_every_nth_pixel_of_the_dilated_maps_is_the_map_before(backbone):
    torch.manual_seed(0)
    config = mini_config(backbone=backbone, norm="frozen_batch")
    plain = with_random_statistics(build_backbone(config)).double().eval()
    dilated = build_backbone(config).double().eval()
    dilated.load_state_dict(plain.state_dict())
    dilate(dilated.stages[3], 1, 2)
    dilate(dilated.stages[4], 2, 4)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    before, after = plain(image), dilated(image)
    assert [m.shape[-2:] for m in after] == [(16, 24), (8, 12), (8, 12), (8, 12)]
    assert torch.equal(after[1], before[1])
    torch.testing.assert_close(after[2][..., ::2, ::2], before[2])
    torch.testing.assert_close(after[3][..., ::4, ::4], before[3])


@pytest.mark.parametrize(("backbone", "norm"), [*((b, "frozen_batch") for b in BACKBONES), *BATCH_AND_GROUP])
@torch.no_grad()
def test_the_logits_have_a_quarter_of_the_size_with_every_backbone_and_norm(backbone, norm):
    model = pspnet(backbone=backbone, norm=norm).eval()
    assert model.semantic_logits(random_images((61, 90))).shape == (1, 7, 16, 24)


@pytest.mark.parametrize("sizes", [[(1, 1)], [(8, 200)], [(64, 96), (33, 31)], [(128, 256)]])
@pytest.mark.parametrize("stride", [1, 4])
def test_images_of_every_size_give_finite_losses_and_gradients(sizes, stride):
    model = pspnet().train()
    targets = [targets_with([], size) for size in sizes]
    losses = model.losses(random_images(*sizes), targets, LOSSES, stride)
    assert set(losses) == {"semantic", "auxiliary"}
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values()), losses
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("classes", [{"num_stuff": 0}, {"num_things": 0}])
def test_a_data_set_may_lack_stuff_or_things(classes):
    model = pspnet(**classes).train()
    targets = [targets_with([(5, 10, 40, 50)] if "num_stuff" in classes else [], **classes)]
    losses = model.losses(random_images((64, 96)), targets, LOSSES, 1)
    assert all(loss.isfinite() for loss in losses.values())
    (output,) = model.eval().predict(random_images((64, 96)), SETTINGS)
    assert output.semantic_logits.shape == (model.num_stuff + model.num_things, 16, 24)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_every_trained_parameter_gets_a_gradient_that_is_not_zero(backbone, norm):
    model = pspnet(backbone=backbone, norm=norm).train()
    targets = [targets_with([(5, 10, 40, 50)]), targets_with([], (64, 64))]
    losses = model.losses(random_images((64, 96), (64, 64)), targets, LOSSES, 1)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_only_training_computes_the_auxiliary_logits_and_only_if_they_count():
    model = pspnet()
    model.auxiliary = torch.nn.Identity()  # would give too many channels
    images, targets = random_images((64, 96)), [targets_with([])]
    assert set(model.train().losses(images, targets, LossWeights(auxiliary=0.0), 4)) == {"semantic"}
    model.eval().predict(images, SETTINGS)


@pytest.mark.parametrize("given", [False, True])
def test_it_detects_nothing_whatever_boxes_are_given(given):
    boxes = GivenInstances(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([1]), True, True)
    outputs = (
        pspnet().eval().predict(random_images((61, 90), (32, 40)), SETTINGS, [boxes] * 2 if given else None)
    )
    assert [output.size for output in outputs] == [(61, 90), (32, 40)]
    for output in outputs:
        found = output.detections
        assert len(found) == 0
        assert [tuple(t.shape) for t in (found.boxes, found.labels, found.mask_logits)] == [
            (0, 4), (0,), (0, 28, 28)
        ]  # fmt: skip
        assert (found.scores.dtype, found.labels.dtype) == (torch.float32, torch.int64)


@torch.no_grad()
def test_the_padding_of_an_image_reaches_neither_the_means_nor_the_result():
    torch.manual_seed(0)
    pooling = PyramidPooling(8, 64, "group").eval()
    features = torch.randn(2, 8, 8, 12)
    alone = pooling(features[:1, :, :5, :7], [(37, 50)])
    together = pooling(features, [(37, 50), (64, 96)])
    assert torch.equal(together[0, :, :5, :7], alone[0])
    assert together[0, :, 5:].count_nonzero() == together[0, :, :, 7:].count_nonzero() == 0
    assert torch.equal(together[1], pooling(features[1:], [(64, 96)])[0])


@torch.no_grad()
def test_the_bins_are_means_over_cells_of_the_image():
    pooling = PyramidPooling(1, 1, "group")
    for branch in pooling.branches:
        branch[0] = torch.nn.Identity()
        branch[1] = torch.nn.Identity()
    features = torch.arange(36.0).reshape(1, 1, 6, 6)
    joined = pooling(features, [(48, 48)])[0]
    assert torch.equal(joined[0], features[0, 0])
    torch.testing.assert_close(joined[1], torch.full((6, 6), 17.5))
    torch.testing.assert_close(joined[2, 0, 0], features[0, 0, :3, :3].mean())
    torch.testing.assert_close(joined[3, 5, 5], features[0, 0, 4:, 4:].mean())
    torch.testing.assert_close(joined[4], features[0, 0])


def test_frozen_stages_get_no_gradient():
    model = pspnet(frozen_stages=2).train()
    sum(model.losses(random_images((64, 96)), [targets_with([])], LOSSES, 4).values()).backward()
    stages = model.backbone.stages
    assert all(p.grad is None for stage in stages[:2] for p in stage.parameters())
    assert all(p.grad is not None for stage in stages[2:] for p in stage.parameters())


def test_new_layers_are_never_normalised_by_frozen_statistics():
    kinds = {
        norm: {type(m).__name__ for m in pspnet(norm=norm).pooling.modules() if "Norm" in type(m).__name__}
        for norm in NORMS
    }
    assert kinds == {"frozen_batch": {"GroupNorm"}, "batch": {"BatchNorm2d"}, "group": {"GroupNorm"}}


def test_deformable_stages_are_refused():
    with pytest.raises(ConfigError, match=r"deformable_stages \[4, 5\].*deformable_stages=\[\]"):
        pspnet(backbone="resnet50", deformable_stages=(4, 5))


def test_batch_norm_of_one_image_per_worker_is_refused():
    pools = ["model.network=pspnet", "inference.merge=heuristic", "model.norm=batch"]
    with pytest.raises(ConfigError, match=r"loader\.images_per_worker must be 2 or more"):
        load_config("mini", (), [*pools, "loader.images_per_worker=1"])
    assert load_config("mini", (), [*pools, "loader.images_per_worker=2"]).model.norm == "batch"


def test_bfloat16_gives_logits_in_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert pspnet().eval().semantic_logits(random_images((64, 96))).dtype == torch.float32
