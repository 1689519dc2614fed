"""The dilated ResNets against torchvision's strided ones."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from crfnet.backbones import build_backbone
from crfnet.backbones.resnet import Bottleneck, ResNet, ResNetOptions
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


@pytest.mark.parametrize(
    ("name", "output_stride"), [("resnet18", 8), ("resnet18", 16), ("resnet18", 32), ("resnet50", 8)]
)
@torch.no_grad()
def test_dilated_network_holds_the_strided_one(
    name: str, output_stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fourth, second or every cell is a cell of torchvision's network of stride 32."""
    classifier = getattr(torchvision.models, name)(weights=None).eval()
    randomize_batch_norms(classifier)
    monkeypatch.setattr("crfnet.backbones.resnet.imagenet_state", lambda _: classifier.state_dict())
    backbone = build_backbone(name, pretrained=True, output_stride=output_stride).eval()
    image = torch.randn(1, 3, 65, 97)
    dense = backbone(image)
    assert dense.shape[2:] == (64 // output_stride + 1, 96 // output_stride + 1)
    every = 32 // output_stride
    assert_close(dense[:, :, ::every, ::every], strided_features(classifier, image), "layer", torch.float32)


@torch.no_grad()
def test_atrous_convolution_is_the_strided_network_applied_to_every_shift() -> None:
    """Far from the border the cells in between are the strided network's on a shifted image.

    Twice as dense cells see the image 16 pixels further on (DeepLab v1, section 3.1).
    """
    backbone = build_backbone("resnet18", width=0.125, output_stride=16).double().eval()
    strided = build_backbone("resnet18", width=0.125, output_stride=32).double().eval()
    randomize_batch_norms(backbone)
    strided.load_state_dict(backbone.state_dict())
    side = 64 * 16 + 1  # the field of view of ResNet-18 is 435 pixels
    image = torch.randn(1, 3, side, 33, dtype=torch.float64)
    dense, shifted = backbone(image), strided(image[:, :, 16:])
    middle = slice(14, 18)
    assert_close(dense[:, :, 1::2, ::2][:, :, middle], shifted[:, :, middle], "layer", torch.float64)


def dilations(stage: nn.Module) -> list[int]:
    return [unit.conv2.dilation[0] for unit in stage]


@pytest.mark.parametrize(
    ("output_stride", "multi_grid", "block3", "block4", "block5"),
    [
        (8, None, [1, 2, 2, 2, 2, 2], [2, 4, 4], [4, 8, 8]),
        (16, None, [1] * 6, [1, 2, 2], [2, 4, 4]),
        (32, None, [1] * 6, [1] * 3, [1, 2, 2]),
        (8, (1, 2, 4), [1, 2, 2, 2, 2, 2], [4, 8, 16], [8, 16, 32]),
        (16, (1, 2, 4), [1] * 6, [2, 4, 8], [4, 8, 16]),
        (32, (1, 2, 1), [1] * 6, [1, 2, 1], [2, 4, 2]),
        (16, (1, 1, 1), [1] * 6, [2, 2, 2], [4, 4, 4]),
    ],
)
def test_rates_are_the_unit_rates_times_that_of_the_block(
    output_stride: int,
    multi_grid: tuple[int, int, int] | None,
    block3: list[int],
    block4: list[int],
    block5: list[int],
) -> None:
    """DeepLab v3, section 3.2.1; without multi-grid the first unit keeps the rate before its stride."""
    with torch.device("meta"):
        backbone = build_backbone(
            "resnet50", output_stride=output_stride, multi_grid=multi_grid, extra_blocks=1
        )
    assert dilations(backbone.layer3) == block3
    assert dilations(backbone.layer4) == block4
    assert dilations(backbone.layer5) == block5
    assert dilations(backbone.layer1) + dilations(backbone.layer2) == 7 * [1]


@pytest.mark.parametrize(
    ("output_stride", "block3", "block4"),
    [(8, [2] * 6, [4] * 3), (16, [1] * 6, [2] * 3), (32, [1] * 6, [1] * 3)],
)
def test_first_units_are_dilated_where_asked_for(
    output_stride: int, block3: list[int], block4: list[int]
) -> None:
    with torch.device("meta"):
        backbone = build_backbone(
            "resnet50", output_stride=output_stride, resnet=ResNetOptions(dilate_first_unit=True)
        )
    assert dilations(backbone.layer3) == block3
    assert dilations(backbone.layer4) == block4
    assert [unit.conv2.padding[0] for unit in backbone.layer3] == block3


def test_multi_grid_needs_a_rate_for_each_unit() -> None:
    with pytest.raises(ValueError, match="multi_grid: 3 unit rates, but stage 4 has 2 units"):
        ResNet(Bottleneck, (1, 1, 1, 2), multi_grid=(1, 2, 4))


def test_repeated_blocks_start_at_random_and_the_rest_from_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = torchvision.models.resnet18(weights=None)
    monkeypatch.setattr("crfnet.backbones.resnet.imagenet_state", lambda _: classifier.state_dict())
    backbone = build_backbone("resnet18", pretrained=True, extra_blocks=2)
    assert torch.equal(backbone.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    assert not torch.equal(backbone.layer5[1].conv2.weight, backbone.layer4[1].conv2.weight)
    assert not torch.equal(backbone.layer6[1].conv2.weight, backbone.layer5[1].conv2.weight)
    assert backbone.layer5[0].downsample is None


@torch.no_grad()
def test_low_level_features_are_the_first_two_stages() -> None:
    backbone = build_backbone("resnet50", width=0.125).eval()
    image = torch.randn(1, 3, 65, 97)
    levels = backbone.levels(image)
    assert backbone.low_channels == {"conv2": 32, "conv3": 64}
    assert levels["conv2"].shape == (1, 32, 17, 25)
    assert levels["conv3"].shape == (1, 64, 9, 13)
    assert torch.equal(backbone.layer2(levels["conv2"]), levels["conv3"])
    assert torch.equal(levels["out"], backbone(image))


@torch.no_grad()
def test_stride_on_the_first_convolution_is_msra_s_strided_network() -> None:
    """The strided one: torchvision's, every stride moved from the 3x3 to the 1x1 convolution."""
    classifier = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1]).eval()
    for stage in (classifier.layer2, classifier.layer3, classifier.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    randomize_batch_norms(classifier)
    backbone = ResNet(Bottleneck, (1, 1, 1, 1), options=ResNetOptions("1x1")).eval()
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
