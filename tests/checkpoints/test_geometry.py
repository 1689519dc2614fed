"""Stride, padding and dilation of every convolution that is imported, beside tables of the originals."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from crfnet.checkpoints.layouts import LAYOUTS
from crfnet.models import build_network
from tests.checkpoints import geometry
from tests.models import twins

State = dict[str, Tensor]


def torchvision_mobile() -> State:
    with torch.device("meta"):
        network = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=twins.CLASSES
        )
    return network.state_dict()


STATES: dict[tuple[str, str], Callable[[], State]] = {
    ("torchvision", "resnet"): lambda: twins.v3_state("classifier."),
    ("torchvision", "mobilenet_v3_large"): torchvision_mobile,
    ("vainf-v3", "resnet"): lambda: twins.v3_state("classifier.classifier."),
    ("vainf-v3plus", "resnet"): twins.vainf_plus_state,
    ("vainf-v3plus", "mobilenet_v2"): twins.vainf_mobile_state,
    ("jfzhang95", "resnet"): twins.jfzhang_state,
    ("jfzhang95", "xception"): twins.jfzhang_xception_state,
    ("jfzhang95", "mobilenet_v2"): twins.jfzhang_mobile_state,
    ("kazuto1011", "resnet"): twins.kazuto_state,
}


@pytest.mark.parametrize(("layout", "network", "output_stride"), list(geometry.TABLES), ids=str)
def test_every_convolution_is_that_of_the_original(layout: str, network: str, output_stride: int) -> None:
    state = STATES[layout, network]()
    rules = next(each for each in LAYOUTS if each.recognizes(list(state)))
    config = rules.convert(state, output_stride).config
    backbones = ["resnet50", "resnet101"] if network == "resnet" else [config.backbone]
    for backbone in backbones:
        with torch.device("meta"):
            model = build_network(dataclasses.replace(config, backbone=backbone), twins.CLASSES)
        ours = {
            name: (layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.dilation[0])
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Conv2d)
        }
        table = geometry.TABLES[layout, network, output_stride]
        assert ours == {name: geometry.expected(table, name) for name in ours}
