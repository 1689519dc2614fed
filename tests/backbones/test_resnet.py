"""The dilated ResNets against torchvision's strided ones."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from crfnet.backbones import build_backbone
from crfnet.backbones.resnet import Bottleneck, ResNet
from tests.tolerances import assert_close


def randomize_batch_norms(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1)
            nn.init.normal_(layer.bias, std=0.1)


def strided_features(classifier: nn.Module, image: Tensor) -> Tensor:
    trunk = nn.Sequential(*list(classifier.children())[:-2])
    return trunk(image)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.no_grad()
def test_every_fourth_cell_is_the_strided_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = getattr(torchvision.models, name)(weights=None).eval()
    randomize_batch_norms(classifier)
    monkeypatch.setattr("crfnet.backbones.resnet.imagenet_state", lambda _: classifier.state_dict())
    backbone = build_backbone(name, pretrained=True).eval()
    image = torch.randn(1, 3, 65, 97)
    dense = backbone(image)
    assert dense.shape[2:] == (9, 13)
    assert_close(dense[:, :, ::4, ::4], strided_features(classifier, image), "layer", torch.float32)


@torch.no_grad()
def test_stride_on_the_first_convolution_is_msra_s_strided_network() -> None:
    """The strided one: torchvision's, every stride moved from the 3x3 to the 1x1 convolution."""
    classifier = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1]).eval()
    for stage in (classifier.layer2, classifier.layer3, classifier.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    randomize_batch_norms(classifier)
    backbone = ResNet(Bottleneck, (1, 1, 1, 1), stride_on="1x1").eval()
    backbone.load_state_dict({k: v for k, v in classifier.state_dict().items() if not k.startswith("fc.")})
    image = torch.randn(1, 3, 65, 65)
    dense, strided = backbone(image)[:, :, ::4, ::4], strided_features(classifier, image)
    assert_close(dense, strided, "layer", torch.float32)


@pytest.mark.parametrize(
    ("name", "make"),
    [("resnet50", torchvision.models.resnet50), ("resnet101", torchvision.models.resnet101)],
)
def test_parameters_have_torchvision_s_names_and_shapes(name: str, make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        ours, theirs = build_backbone(name).state_dict(), make().state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes
