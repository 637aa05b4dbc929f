"""What must hold on a CUDA device, too; `make test-gpu` runs these."""

import subprocess
import sys

import pytest
import torch

from upsnet.model.deformable import DeformableConv2d
from upsnet.model.panoptic_head import panoptic_argmax

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

TINY = [
    "data.synthetic.train_images=4",
    "data.synthetic.val_images=2",
    "training.iterations=4",
    "training.bf16=true",
    "tracking.mlflow=false",
]


def test_the_panoptic_head_decides_as_on_the_cpu():
    torch.manual_seed(0)
    logits = torch.randint(-3, 4, (12, 40, 60)).float()  # ties in plenty
    boxes = torch.tensor([[3.2, 4.7, 40.1, 20.0], [0.0, 0.0, 60.0, 40.0], [10.0, 10.0, 11.0, 11.0]])
    labels, masks = torch.tensor([3, 1, 5]), torch.full((3, 28, 28), 1.0)
    tensors = (boxes, labels, masks)
    results = [
        panoptic_argmax(logits.to(device), 1, (40, 60), 7, *(t.to(device) for t in tensors), unknown=True)
        for device in ("cpu", "cuda")
    ]
    assert torch.equal(results[0].channel, results[1].channel.cpu())
    assert torch.equal(results[0].class_id, results[1].class_id.cpu())


def test_deformable_convolution_gives_the_cpu_s_values():
    torch.manual_seed(0)
    layer, image = DeformableConv2d(8, 6), torch.randn(2, 8, 12, 20)
    torch.nn.init.normal_(layer.offset.weight, std=0.2)
    expected = layer(image)
    torch.testing.assert_close(layer.cuda()(image.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)


def test_a_training_in_bfloat16_and_its_evaluation_run(tmp_path):
    def upsnet(*arguments):
        subprocess.run([sys.executable, "-m", "upsnet.cli", *arguments], cwd=tmp_path, check=True)

    upsnet("configure", "--out", "config.yaml", *TINY)
    upsnet("prepare", "--config", "config.yaml", "--out", "data")
    upsnet("train", "--config", "config.yaml", "--data", "data", "--out", "train")
    upsnet("evaluate", "--checkpoint", "train", "--data", "data", "--out", "evaluate")
    assert (tmp_path / "evaluate" / "metrics.json").is_file()
