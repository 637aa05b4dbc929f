"""Sizes of the networks: the paper's parameters, and operations that can be worked out by hand."""

import pytest
import torch
from torch import nn

from upsnet.config import Config, load_config
from upsnet.model.deformable import DeformableConv2d
from upsnet.model.summary import PartSize, count_flops, network_parts, summary, total

COCO = (53, 80)
PAPER_SIZE = (800, 1333)


def meta_flops(module: nn.Module, *shape: int) -> int:
    module.to("meta")
    return count_flops({"it": [module]}, lambda: module(torch.empty(shape, device="meta")))["it"]


def parts_of(*layers, size=PAPER_SIZE, classes=COCO) -> dict[str, PartSize]:
    return {part.name: part for part in network_parts(load_config(*layers), *classes, size)}


def test_a_convolution_has_two_operations_per_weight_and_output_pixel():
    convolution = nn.Conv2d(3, 8, 5, stride=2, padding=2)
    assert meta_flops(convolution, 1, 3, 20, 30) == 2 * (3 * 5 * 5 * 8) * (10 * 15)


def test_a_transposed_convolution_has_two_operations_per_weight_and_input_pixel():
    assert meta_flops(nn.ConvTranspose2d(6, 4, 2, stride=2), 1, 6, 10, 10) == 2 * (6 * 4 * 2 * 2) * 100


@pytest.mark.parametrize("stride", [1, 2])
def test_a_deformable_convolution_counts_its_taps_and_its_offsets(stride):
    pixels = (20 // stride) * (30 // stride)
    expected = 2 * 9 * 16 * (8 + 18) * pixels
    assert meta_flops(DeformableConv2d(16, 8, stride=stride), 1, 16, 20, 30) == expected


def test_operations_go_to_the_part_whose_module_does_them():
    first, second, third = (nn.Linear(a, b, device="meta") for a, b in ((10, 20), (20, 5), (5, 2)))
    inputs = torch.empty(7, 10, device="meta")
    flops = count_flops({"a": [first, third], "b": [second]}, lambda: third(second(first(inputs))))
    assert flops == {"a": 2 * 7 * (10 * 20 + 5 * 2), "b": 2 * 7 * 20 * 5}


def test_upsnet_50_has_the_paper_s_parameters_part_by_part():
    parts = parts_of("coco_r50")
    assert {name: part.parameters for name, part in parts.items()} == {
        "backbone": 23_508_032,
        "fpn": 3_868_928,
        "rpn": 593_935,
        "box_head": 14_310_805,
        "mask_head": 2_643_537,
        "semantic_head": 1_204_667,
    }
    assert total(list(parts.values())).parameters == 46_129_904
    assert total(list(parts.values())).trainable == 45_854_384


def test_the_two_networks_of_mr_cnn_psp_have_the_paper_s_parameters_without_the_auxiliary_classifier():
    parts = network_parts(load_config("coco_r50", ["mr_cnn_psp"]), *COCO, PAPER_SIZE)
    auxiliary = [part for part in parts if part.training_only]
    assert [part.name for part in auxiliary] == ["semantics.auxiliary"]
    assert (auxiliary[0].flops, auxiliary[0].parameters > 0) == (0, True)
    assert total(parts).parameters == 91_575_290


def test_the_heads_of_upsnet_have_the_operations_of_their_layers():
    parts = parts_of("coco_r50")
    pyramid = sum((800 // s) * (1344 // s) for s in (4, 8, 16, 32))
    pyramid_and_p6 = pyramid + 13 * 21
    taps = 256 * 256 + 256 * 128 + 128 * 128
    offsets = 18 * (256 + 256 + 128)
    semantic = 9 * (taps + offsets) * pyramid + 4 * 128 * 133 * 200 * 336
    rpn = (9 * 256 * 256 + 256 * 3 + 256 * 12) * pyramid_and_p6
    box = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 4 * 81)
    mask = 100 * (4 * 9 * 256 * 256 * 14 * 14 + 256 * 256 * 28 * 28 + 256 * 81 * 28 * 28)
    counted = {name: parts[name].flops for name in ("semantic_head", "rpn", "box_head", "mask_head")}
    assert counted == {
        "semantic_head": 2 * semantic,
        "rpn": 2 * rpn,
        "box_head": 2 * box,
        "mask_head": 2 * mask,
    }


def test_the_backbone_has_the_known_operations_of_a_resnet_50():
    """4.09 G multiply-adds at 224 x 224 (torchvision's figure), of which the left-out classifier has 2 M."""
    backbone = parts_of("coco_r50", size=(224, 224))["backbone"]
    assert backbone.flops / 2e9 == pytest.approx(4.087, abs=0.005)


def test_mask_rcnn_computes_as_much_as_is_known_of_it():
    """About 260 G multiply-adds at 800 x 1333 with an R50-FPN."""
    counted = total(list(parts_of("coco_r50", ["mask_rcnn"]).values()))
    assert 250e9 < counted.flops / 2 < 280e9


@pytest.mark.parametrize("network", ["upsnet", "mask_rcnn", "pspnet", "mr_cnn_psp"])
def test_every_part_that_a_test_uses_has_operations_that_grow_with_what_it_sees(network):
    variants = [] if network == "upsnet" else [network]
    small, large = (parts_of("mini", variants, size=s, classes=(4, 3)) for s in ((128, 128), (128, 256)))
    for name, part in small.items():
        if name.endswith(("box_head", "mask_head")):
            assert large[name].flops == part.flops > 0
        elif part.training_only:
            assert large[name].flops == part.flops == 0
        elif not name.endswith("pooling"):
            assert large[name].flops == pytest.approx(2 * part.flops, rel=0.01)
            assert part.flops > 0


def test_the_mask_head_is_counted_for_the_detections_of_the_configuration():
    few, many = (parts_of("mini", [], [f"inference.detections_per_img={n}"]) for n in (10, 30))
    assert 3 * few["mask_head"].flops == many["mask_head"].flops
    assert few["box_head"] == many["box_head"]


def test_the_summary_names_the_size_and_ends_with_the_total():
    config: Config = load_config("coco_r50", ["mr_cnn_psp"])
    lines = summary(config, *COCO).splitlines()
    assert "800 x 1333 image, padded to 800 x 1344; 1000 proposals, 100 detections" in lines[1]
    assert "1 multiply-add = 2 FLOPs" in lines[2]
    name, parameters, _, gflops = lines[-1].split()
    assert (name, parameters) == ("total", "91,575,290")
    assert float(gflops.replace(",", "")) > 1000
    (auxiliary,) = [line for line in lines if line.startswith("semantics.auxiliary")]
    assert auxiliary.endswith("-  (in training only, not in the total)")
