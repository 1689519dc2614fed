"""DeepLab v3+: the decoder with every choice of tables 1 and 2, published sizes, and that it learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.models import DeepLabV3PlusConfig, build_network
from crfnet.models.decoder import Decoder
from crfnet.models.deeplab_v3plus import DeepLabV3Plus
from tests.models.configs import model_config, refuse
from tests.tolerances import assert_close


def tiny(backbone: str = "resnet18", **changes: object) -> DeepLabV3Plus:
    width = 1.0 if backbone.startswith("timm:") else 0.125
    config = model_config("deeplab_v3plus", backbone=backbone, width=width, **changes)
    network = build_network(config, num_classes=3)
    assert isinstance(network, DeepLabV3Plus)
    return network


@pytest.mark.parametrize(
    ("backbone", "output_stride"),
    [
        ("resnet18", 8),
        ("resnet18", 16),
        ("resnet18", 32),
        ("timm:mobilenetv3_small_050", 16),
        ("timm:convnext_atto", 16),
    ],
)
def test_logits_are_at_stride_4(backbone: str, output_stride: int) -> None:
    with torch.device("meta"):
        network = tiny(backbone, output_stride=output_stride).eval()
        rows, columns = (80, 128) if "convnext" in backbone else (81, 129)
        assert network(torch.empty(2, 3, 321, 513)).shape == (2, 3, rows, columns)


@pytest.mark.parametrize(("size", "cells"), [((33, 65), (9, 17)), ((64, 96), (17, 25)), ((50, 71), (13, 19))])
def test_sizes_round_up_so_that_no_pixel_is_beyond_the_last_cell(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    logits = tiny(decoder_features="conv2_conv3").eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3, *cells)


@pytest.mark.parametrize(
    ("backbone", "changes", "parameters"),
    [
        ("resnet50", {"decoder_channels": (256,)}, 39_761_845),  # as VainF/DeepLabV3Plus-Pytorch
        ("resnet101", {"decoder_channels": (256,)}, 58_753_973),  # likewise
        ("resnet101", {}, 59_344_309),  # as jfzhang95/pytorch-deeplab-xception
    ],
)
def test_parameters_are_as_many_as_in_public_reproductions(
    backbone: str, changes: dict[str, object], parameters: int
) -> None:
    with torch.device("meta"):
        network = build_network(model_config("deeplab_v3plus", backbone=backbone, **changes), 21)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["xception41", "xception65", "xception71"])
def test_decoder_takes_xception_before_the_stride_of_its_second_block(name: str) -> None:
    """256 channels at stride 4, of the module that the published network's decoder takes."""
    with torch.device("meta"):
        network = build_network(model_config("deeplab_v3plus", backbone=f"timm:{name}"), 21)
        assert network.decoder.reduce["conv2"].conv.in_channels == 256
        assert network.backbone.out_channels == 2048


#: The rows of tables 1 and 2 of the paper beyond the default: what is changed, and the (input, output, size)
#: of the decoder's convolutions.
ROWS = [
    ({"decoder_reduce": 8, "decoder_channels": (256,)}, [(256, 8, 1), (264, 256, 3)]),
    ({"decoder_channels": (256,)}, [(256, 48, 1), (304, 256, 3)]),
    ({}, [(256, 48, 1), (304, 256, 3), (256, 256, 3)]),
    ({"decoder_channels": 3 * (256,)}, [(256, 48, 1), (304, 256, 3), (256, 256, 3), (256, 256, 3)]),
    ({"decoder_channels": (128,)}, [(256, 48, 1), (304, 128, 3)]),
    ({"decoder_kernel": 1, "decoder_channels": (256,)}, [(256, 48, 1), (304, 256, 1)]),
    (
        {"decoder_features": "conv2_conv3", "decoder_channels": (256,)},
        [(512, 48, 1), (256, 48, 1), (304, 256, 3), (304, 256, 3)],
    ),
]


@pytest.mark.parametrize(("changes", "shapes"), ROWS, ids=[",".join(row[0]) or "default" for row in ROWS])
def test_decoder_has_every_choice_of_tables_1_and_2(
    changes: dict[str, object], shapes: list[tuple[int, int, int]]
) -> None:
    with torch.device("meta"):
        network = build_network(model_config("deeplab_v3plus", backbone="resnet50", **changes), 21)
    layers = [layer for layer in network.decoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [(one.in_channels, one.out_channels, one.kernel_size[0]) for one in layers] == shapes
    assert network.classifier.in_channels == shapes[-1][1]


def test_decoder_joins_resized_features_with_reduced_ones_level_by_level() -> None:
    """A twin in plain functions: batch normalization of the evaluation mode starts as the identity."""
    decoder = Decoder(
        5,
        {"conv3": 7, "conv2": 6},
        reduce=2,
        widths=[4],
        kernel=3,
        separable=False,
        align_corners=True,
    ).eval()
    state, scale = decoder.state_dict(), (1 + 1e-5) ** -0.5
    features, conv3, conv2 = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 5, 7), torch.randn(2, 6, 9, 13)
    expected = features
    for level, low in (("conv3", conv3), ("conv2", conv2)):
        reduced = F.relu(scale * F.conv2d(low, state[f"reduce.{level}.conv.weight"]))
        resized = F.interpolate(expected, low.shape[2:], mode="bilinear", align_corners=True)
        joined = torch.cat([resized, reduced], 1)
        weight = state[f"refine.{level}.0.conv.weight"]
        expected = F.relu(scale * F.conv2d(joined, weight, padding=1))
    assert_close(decoder(features, {"conv2": conv2, "conv3": conv3}), expected, "layer", torch.float32)


def test_network_in_half_precision_stays_in_it() -> None:
    network = tiny().eval().to(torch.bfloat16)
    assert network(torch.randn(1, 3, 33, 33, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_separable_reaches_aspp_and_decoder_but_no_1x1_convolution() -> None:
    network = tiny(separable=True)
    head = [layer for part in (network.aspp, network.decoder) for layer in part.modules()]
    whole = [one for one in head if isinstance(one, nn.Conv2d) and one.groups == 1]
    assert {one.kernel_size for one in whole} == {(1, 1)}
    assert sum(isinstance(one, nn.Conv2d) and one.groups > 1 for one in head) == 3 + 2
    pointwise = tiny(separable=True, decoder_kernel=1).decoder
    assert all(one.groups == 1 for one in pointwise.modules() if isinstance(one, nn.Conv2d))


@pytest.mark.parametrize(
    "changes",
    [{}, {"separable": True}, {"decoder_features": "conv2_conv3", "decoder_channels": (256,)}],
    ids=["plain", "separable", "conv2_conv3"],
)
def test_it_learns_one_batch_at_stride_4(changes: dict[str, object]) -> None:
    network = tiny(dropout=0.0, **changes).train()
    image = torch.randn(2, 3, 33, 33)
    labels = (image[:, 0, ::4, ::4] > 0).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        loss = F.cross_entropy(network(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    assert loss < 0.2


def test_xception_trains_one_step() -> None:
    config = model_config("deeplab_v3plus", backbone="timm:xception41", separable=True)
    network = build_network(config, num_classes=3).train()
    network(torch.randn(2, 3, 33, 33)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder_channels": ()}, r"^decoder_channels is \(\), must be at least one number >= 1"),
        ({"decoder_reduce": 0}, r"^decoder_reduce is 0, must be >= 1"),
        ({"decoder_kernel": 5}, r"^decoder_kernel is 5, must be one of 1, 3"),
        (
            {"decoder_features": "conv1"},
            r"^decoder_features is 'conv1', must be one of conv2, conv2_conv3",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        refuse(DeepLabV3PlusConfig(), changes)


@pytest.mark.parametrize("changes", [{"cascade": "block5"}, {"extra_convolution": True}])
def test_what_is_of_v3_is_refused(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"unknown key model.deeplab_v3plus.{name}"):
        model_config("deeplab_v3plus", **changes)


def test_backbone_without_low_level_features_is_refused() -> None:
    config = model_config("deeplab_v3plus", backbone="vgg16", width=0.125, output_stride=8)
    with pytest.raises(InputError, match=r"model.backbone is 'vgg16', which has no conv2 for the decoder"):
        build_network(config, num_classes=3)
