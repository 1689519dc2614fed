"""VGG-16 in LargeFOV's geometry and its classifier as convolutions."""

import torch
import torchvision
from torch import nn

from crfnet.backbones.vgg import VGG16, decimated_fc


def test_layers_have_torchvision_s_names_and_shapes() -> None:
    with torch.device("meta"):
        ours, theirs = VGG16().state_dict(), torchvision.models.vgg16().state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if key.startswith("features.")}
    assert {key: value.shape for key, value in ours.items()} == shapes
    assert sum(shape.numel() for shape in shapes.values()) == 14_714_688


def test_geometry_is_that_of_the_prototxt() -> None:
    layers = VGG16(width=0.125).features
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [
        (3, 2, 1),
        (3, 2, 1),
        (3, 2, 1),
        (3, 1, 1),
        (3, 1, 1),
    ]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer.dilation[0] for layer in convolutions] == [1] * 10 + [2] * 3


def test_decimation_keeps_taps_0_3_6_and_every_fourth_filter() -> None:
    """8 filters, 3 channels: each number of the weights says where it came from."""
    outputs, inputs = torch.arange(8.0), torch.arange(8.0)
    taps = torch.arange(3 * 49.0)
    state = {
        "classifier.0.weight": outputs[:, None] * 1000 + taps,
        "classifier.0.bias": outputs,
        "classifier.3.weight": outputs[:, None] * 10 + inputs,
        "classifier.3.bias": -outputs,
    }
    fc = decimated_fc(state)
    rows = torch.tensor([0.0, 3.0, 6.0])
    kernel = rows[:, None] * 7 + rows
    channels = torch.arange(3.0)[:, None, None] * 49
    expected = torch.tensor([0.0, 4000.0]).view(2, 1, 1, 1) + channels + kernel
    assert torch.equal(fc["fc6.weight"], expected)
    assert torch.equal(fc["fc6.bias"], torch.tensor([0.0, 4.0]))
    assert torch.equal(fc["fc7.weight"][:, :, 0, 0], torch.tensor([[0.0, 4.0], [40.0, 44.0]]))
    assert torch.equal(fc["fc7.bias"], torch.tensor([0.0, -4.0]))
