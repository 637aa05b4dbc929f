"""The CPU's deformable convolution against torchvision's."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from upsnet.model.deformable import DeformableConv2d, sampled_convolution


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 14), (1, 1), (2, 5)])
def test_values_and_gradients_equal_torchvision_s(stride, size):
    torch.manual_seed(0)
    height, width = size
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    tensors = [
        torch.randn(2, 5, height, width),
        3 * torch.randn(2, 18, rows, columns),  # far enough to leave the map
        torch.randn(4, 5, 3, 3),
        torch.randn(4),
    ]
    ours, theirs = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    output = sampled_convolution(*ours, stride)
    expected = deform_conv2d(*theirs[:3], bias=theirs[3], stride=stride, padding=1)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)


def test_without_offsets_it_is_an_ordinary_convolution():
    torch.manual_seed(0)
    layer = DeformableConv2d(3, 4, stride=2)
    image = torch.randn(1, 3, 8, 10)
    expected = torch.nn.functional.conv2d(image, layer.conv.weight, layer.conv.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(image), expected, rtol=1e-4, atol=1e-5)
