"""Every backbone: output stride, frozen batch normalization, refusals."""

import pytest
import torch
from torch import nn

from crfnet.backbones import BACKBONES, STRIDES, Backbone, build_backbone
from crfnet.backbones.backbone import scaled_channels
from crfnet.errors import InputError

TIMM = "timm:mobilenetv3_small_050"
#: All of output stride 8 but one whose unpadded stem loses the last cell.
EVERY_EIGHTH = [name for name in BACKBONES if 8 in STRIDES.get(name, (8,)) and name != "mobilenet_v2_vainf"]
EVERY_EIGHTH += [TIMM]


def tiny(name: str) -> Backbone:
    return build_backbone(name, width=1.0 if name.startswith("timm:") else 0.125)


@pytest.mark.parametrize("name", EVERY_EIGHTH)
def test_every_eighth_pixel_gives_a_cell(name: str) -> None:
    with torch.device("meta"):
        backbone = tiny(name)
        features = backbone(torch.empty(2, 3, 321, 513))
    assert features.shape == (2, backbone.out_channels, 41, 65)


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_sizes_round_up_so_that_no_pixel_is_beyond_the_last_cell(name: str) -> None:
    with torch.device("meta"):
        features = tiny(name)(torch.empty(1, 3, 96, 121))
    assert features.shape[2:] == (13, 16)


@pytest.mark.parametrize(
    ("channels", "width", "scaled"),
    [(64, 1.0, 64), (64, 0.25, 16), (64, 0.2, 16), (64, 0.01, 8), (256, 1.5, 384)],
)
def test_widths_are_multiples_of_eight(channels: int, width: float, scaled: int) -> None:
    assert scaled_channels(channels, width) == scaled


def test_width_scales_every_layer() -> None:
    with torch.device("meta"):
        backbone = build_backbone("resnet50", width=0.25)
    assert backbone.out_channels == 512
    assert backbone.conv1.out_channels == 16


@pytest.mark.parametrize("name", ["resnet18", TIMM])
def test_frozen_batch_norm_keeps_statistics_and_affine_parameters_in_training(name: str) -> None:
    backbone = tiny(name)
    layers = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [{key: value.clone() for key, value in layer.state_dict().items()} for layer in layers]
    backbone.freeze_batch_norm()
    nn.Sequential(backbone).eval().train()

    optimizer = torch.optim.SGD(
        [parameter for parameter in backbone.parameters() if parameter.requires_grad], lr=1
    )
    backbone(torch.randn(2, 3, 33, 33)).sum().backward()
    optimizer.step()

    assert layers
    assert backbone.training
    for layer, state in zip(layers, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())
        assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_batch_norm_that_is_not_frozen_learns_its_statistics() -> None:
    backbone = tiny("resnet18")
    backbone(torch.randn(2, 3, 33, 33))
    assert backbone.bn1.running_mean.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "width", "pretrained", "words"),
    [
        ("resnet34", 1.0, False, r"backbone is 'resnet34', must be one of vgg16, .*timm:<name>"),
        ("resnet18", 0.0, False, r"width is 0.0, must be in \(0, 16\]"),
        ("resnet18", float("nan"), False, r"width is nan"),
        ("resnet18", 0.5, True, r"width is 0.5, must be 1 for ImageNet weights"),
        ("timm:resnet18", 0.5, False, r"width is 0.5, must be 1 for a network of timm"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, width: float, pretrained: bool, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_backbone(name, width=width, pretrained=pretrained)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("vgg16", {"output_stride": 16}, r"output_stride is 16, must be 8 for vgg16"),
        ("resnet18", {"multi_grid": (1, 2, 4)}, r"multi_grid is \(1, 2, 4\), must be null for resnet18"),
        ("timm:resnet50", {"multi_grid": (1, 2, 4)}, r"multi_grid is .*, must be null for timm:resnet50"),
        ("vgg16", {"extra_blocks": 1}, r"cascade: vgg16 has no block4 to repeat"),
    ],
)
def test_geometry_that_cannot_be_built_is_refused(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_backbone(name, **changes)


def test_vgg_has_no_low_level_features() -> None:
    backbone = tiny("vgg16")
    assert backbone.low_channels == {}
    assert list(backbone.levels(torch.randn(1, 3, 17, 17))) == ["out"]
