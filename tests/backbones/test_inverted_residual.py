"""MobileNetV2 of TensorFlow's DeepLab and EfficientNet-Lite: timm's layers, our geometry."""

import pytest
import timm
import torch
from torch import nn

from crfnet.backbones import build_backbone
from crfnet.backbones.inverted_residual import InvertedResidualNetwork
from crfnet.backbones.mobilenet_v2 import MobileNetV2Options, stage_channels
from crfnet.errors import InputError
from crfnet.models import DeepLabV3PlusConfig, ModelConfig, build_network
from tests.tolerances import assert_close

NETWORKS = {
    "mobilenet_v2": "mobilenetv2_100",
    **{f"efficientnet_lite{variant}": f"tf_efficientnet_lite{variant}" for variant in range(5)},
}


@pytest.mark.parametrize(("name", "theirs"), NETWORKS.items())
def test_layers_are_timm_s(name: str, theirs: str) -> None:
    with torch.device("meta"):
        ours, other = build_backbone(name), timm.create_model(theirs)
    shapes = {key: value.shape for key, value in other.state_dict().items()}
    assert {key: shapes.get(key) for key in ours.state_dict()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }
    left = {key.partition(".")[0] for key in shapes.keys() - ours.state_dict().keys()}
    assert left == {"conv_head", "bn2", "classifier"}
    norm, their_norm = ours.get_submodule("blocks.1.0.bn1"), other.get_submodule("blocks.1.0.bn1")
    assert norm.eps == their_norm.eps


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("name", "theirs"), [("efficientnet_lite0", "tf_efficientnet_lite0")])
@torch.no_grad()
def test_features_are_timm_s_where_its_padding_is_even(name: str, theirs: str, output_stride: int) -> None:
    """At 32 k + 1 pixels TensorFlow's padding is the same on both sides; dilations of either are the same."""
    other = timm.create_model(theirs, features_only=True, output_stride=output_stride).eval()
    ours = build_backbone(name, output_stride=output_stride).eval()
    ours.load_state_dict({key: other.state_dict()[key] for key in ours.state_dict()})
    image = torch.randn(1, 3, 97, 65)
    levels, maps = ours.levels(image), other(image)
    assert_close(levels["out"], maps[-1], "layer", torch.float32)
    assert_close(levels["conv2"], maps[1], "layer", torch.float32)
    assert_close(levels["conv3"], maps[2], "layer", torch.float32)


@pytest.mark.parametrize("size", [(97, 65), (96, 64), (90, 77)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite2"])
def test_a_cell_lies_on_every_s_th_pixel(name: str, output_stride: int, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride)
        levels = backbone.levels(torch.empty(1, 3, *size))
    for level, stride in {"conv2": 4, "conv3": 8, "out": output_stride}.items():
        assert levels[level].shape[2:] == tuple(-(-side // stride) for side in size)
    assert set(backbone.low_channels) == levels.keys() - {"out"}
    assert {level: levels[level].shape[1] for level in backbone.low_channels} == backbone.low_channels
    paddings = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.padding[0] == m.dilation[0] * (m.kernel_size[0] // 2) for m in paddings)


@pytest.mark.parametrize(("output_stride", "rates"), [(32, (1, 1, 1)), (16, (1, 2, 2)), (8, (2, 4, 4))])
def test_dilations_are_those_of_tensorflow_s_deeplab(output_stride: int, rates: tuple[int, ...]) -> None:
    """In the stage of 160 channels; the unit whose stride is dropped keeps the rate from before it."""
    with torch.device("meta"):
        network = build_backbone("mobilenet_v2", output_stride=output_stride)
    found = [unit.conv_dw.dilation[0] for unit in network.blocks[5]]  # type: ignore[index,union-attr]
    assert tuple(found) == rates


def test_decoder_takes_its_low_level_features_and_the_stride_can_change() -> None:
    variant = DeepLabV3PlusConfig(decoder_features="conv2_conv3", output_stride=16, eval_output_stride=8)
    network = build_network(ModelConfig(variant, backbone="efficientnet_lite0", width=0.25), 3)
    assert network.eval()(torch.randn(1, 3, 65, 65)).shape == (1, 3, 17, 17)
    assert network.backbone.blocks[5][1].conv_dw.dilation == (4, 4)  # type: ignore[index,union-attr]


def test_multipliers_round_as_asked() -> None:
    assert stage_channels(0.5, 1) == [16, 8, 12, 16, 32, 48, 80, 160]
    assert stage_channels(0.5, 8) == [16, 8, 16, 16, 32, 48, 80, 160]
    with torch.device("meta"):
        half = build_backbone("mobilenet_v2", mobilenet_v2=MobileNetV2Options(0.5, 1))
        narrow = build_network(
            ModelConfig("deeplab_v3", "mobilenet_v2", mobilenet_v2=MobileNetV2Options(0.35)), 4
        )
    assert isinstance(half, InvertedResidualNetwork)
    assert half.out_channels == 160
    assert narrow.get_submodule("aspp.project.conv").out_channels == 256  # the head keeps its width


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"mobilenet_v2": MobileNetV2Options(0.5), "pretrained": True},
            "depth_multiplier is 0.5, must be 1 for",
        ),
        ({"name": "efficientnet_lite1", "pretrained": True}, "torchvision has no weights of it"),
    ],
)
def test_weights_that_do_not_exist_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_backbone(**({"name": "mobilenet_v2"} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [(0.0, 8), (17.0, 8), (float("nan"), 8)])
def test_options_out_of_range_are_refused(values: tuple[float, int]) -> None:
    with pytest.raises(InputError, match=r"mobilenet_v2\.depth_multiplier is .*, must be in \(0, 16\]"):
        MobileNetV2Options(*values)  # type: ignore[arg-type]
