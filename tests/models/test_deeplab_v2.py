"""DeepLab v2: the published sizes, the parameter groups, the ImageNet start, and that it learns."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.models import DeepLabV2Config, ModelConfig, build_network
from crfnet.models.aspp_v2 import SummedBranches, convolution_branch, fc_branch
from crfnet.models.deeplab_v2 import RATES, DeepLabV2
from tests.models.configs import model_config, refuse

HEADS = ("large_fov", "aspp_s", "aspp_l")


def tiny(backbone: str = "vgg16", head: str = "aspp_l", **changes: object) -> DeepLabV2:
    width = 1.0 if backbone.startswith("timm:") else 0.125
    return build_network(model_config(backbone=backbone, head=head, width=width, **changes), num_classes=3)


@pytest.mark.parametrize(
    ("backbone", "head", "parameters"),
    [
        ("vgg16", "aspp_l", 37_877_652),  # the ASPP of DeepLab v2, 37.9 M
        ("vgg16", "large_fov", 20_505_429),  # v2 Table 1: 20.5 M
        ("resnet101", "aspp_l", 44_048_532),  # as public PyTorch reproductions
    ],
)
def test_parameters_are_as_many_as_published(backbone: str, head: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(model_config(backbone=backbone, head=head), num_classes=21)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("backbone", "head"), list(product(["vgg16", "resnet18"], HEADS)))
def test_logits_are_at_stride_8(backbone: str, head: str) -> None:
    with torch.device("meta"):
        logits = tiny(backbone, head)(torch.empty(1, 3, 321, 513))
    assert logits.shape == (1, 3, 41, 65)


@pytest.mark.parametrize("head", HEADS)
def test_rates_reach_the_convolutions(head: str) -> None:
    dilations = {"large_fov": [12], "aspp_s": [2, 4, 8, 12], "aspp_l": [6, 12, 18, 24]}[head]
    assert [branch.fc6.dilation[0] for branch in tiny("vgg16", head).head.branches] == dilations
    assert [branch.fc8.dilation[0] for branch in tiny("resnet18", head).head.branches] == dilations


def test_field_of_view_of_large_fov_is_224() -> None:
    """8 k_e + 24 pixels (v2 Table 1), k_e the support of fc6 in cells, read off the gradient."""
    branch = fc_branch(8, 8, 2, *RATES["large_fov"], dropout=0.0)
    features = torch.zeros(1, 8, 41, 41, requires_grad=True)
    branch.fc6(features)[0, :, 20, 20].sum().backward()
    touched = features.grad.abs().sum((0, 1, 2)).nonzero()
    assert 8 * int(touched.max() - touched.min() + 1) + 24 == 224


def test_large_fov_on_vgg_averages_pool5() -> None:
    network = tiny("vgg16", "large_fov").eval()
    image = torch.randn(1, 3, 65, 65)
    features = network.backbone(image)
    # As Caffe: the padding counts in the mean.
    padded = F.pad(features, (1, 1, 1, 1))
    mean = sum(padded[:, :, y : y + 9, x : x + 9] for y in range(3) for x in range(3)) / 9
    torch.testing.assert_close(network(image), network.head(mean))
    assert isinstance(tiny("vgg16", "aspp_l").pool5a, nn.Identity)
    assert isinstance(tiny("resnet18", "large_fov").pool5a, nn.Identity)


def test_scores_of_the_branches_are_summed() -> None:
    branches = [convolution_branch(4, 2, rate) for rate in (1, 2, 3)]
    features = torch.randn(2, 4, 7, 7)
    summed = SummedBranches(branches)(features)
    torch.testing.assert_close(summed, torch.stack([branch(features) for branch in branches]).sum(0))


def test_classifiers_start_near_zero() -> None:
    network = build_network(ModelConfig(backbone="resnet18"), num_classes=21)
    for layer in network.head.classifiers():
        assert 0.0098 < float(layer.weight.detach().std()) < 0.0102
        assert not layer.bias.any()


@pytest.mark.parametrize("backbone", ["vgg16", "resnet18", "timm:mobilenetv3_small_050"])
def test_every_parameter_is_in_one_group(backbone: str) -> None:
    network = tiny(backbone)
    groups = network.parameter_groups()
    assert list(groups) == ["backbone_weight", "backbone_bias", "head_weight", "head_bias"]
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    assert [tuple(p.shape) for p in groups["head_bias"]] == [(3,)] * 4
    assert {p.shape[0] for p in groups["head_weight"]} == {3}
    assert len(groups["head_weight"]) == 4
    shifts = [module.bias for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module.bias for module in network.modules() if isinstance(module, nn.Conv2d)]
    biases = {id(bias) for bias in [*shifts, *convolutions] if bias is not None}
    assert {id(p) for p in groups["backbone_bias"] + groups["head_bias"]} == biases


def test_frozen_batch_norm_is_in_no_group_and_convolutions_still_learn() -> None:
    network = tiny("resnet18", batch_norm="frozen").train()
    groups = network.parameter_groups()
    assert {p.ndim for p in groups["backbone_weight"]} == {4}
    assert groups["backbone_bias"] == []
    assert not network.backbone.bn1.training


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A narrow VGG-16 stands in for torchvision's: nothing is downloaded."""
    with torch.device("meta"):
        shapes = tiny("vgg16").backbone.state_dict()
    state = {key: torch.randn(value.shape) for key, value in shapes.items()}
    state["classifier.0.weight"], state["classifier.0.bias"] = torch.randn(512, 64 * 49), torch.randn(512)
    state["classifier.3.weight"], state["classifier.3.bias"] = torch.randn(512, 512), torch.randn(512)
    for module in ("backbones.vgg", "models.network"):
        monkeypatch.setattr(f"crfnet.{module}.imagenet_state", lambda _: state)
    for module in ("backbones.vgg", "models.deeplab_v2"):
        monkeypatch.setattr(f"crfnet.{module}.scaled_channels", lambda channels, _: channels // 8)
    return state


def test_imagenet_vgg_starts_trunk_fc6_and_fc7_of_every_branch(imagenet: dict[str, Tensor]) -> None:
    network = build_network(ModelConfig(backbone="vgg16", weights="imagenet"), num_classes=3)
    assert torch.equal(network.backbone.features[0].weight, imagenet["features.0.weight"])
    fc6 = imagenet["classifier.0.weight"].view(512, 64, 7, 7)[::4, :, [0, 3, 6]][..., [0, 3, 6]]
    assert len(network.head.branches) == 4
    for branch in network.head.branches:
        assert torch.equal(branch.fc6.weight, fc6)
        assert torch.equal(branch.fc6.bias, imagenet["classifier.0.bias"][::4])
        assert torch.equal(branch.fc7.weight[..., 0, 0], imagenet["classifier.3.weight"][::4, ::4])
        assert torch.equal(branch.fc7.bias, imagenet["classifier.3.bias"][::4])
        assert 0.005 < float(branch.fc8.weight.detach().std()) < 0.015
    assert not torch.equal(network.head.branches[0].fc8.weight, network.head.branches[1].fc8.weight)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [*product(["vgg16", "resnet18"], HEADS), ("resnet50", "aspp_l"), ("resnet101", "aspp_l")],
)
def test_a_step_lowers_the_loss_on_one_image(backbone: str, head: str) -> None:
    network = tiny(backbone, head, dropout=0.0).train()
    image = torch.randn(2, 3, 65, 65)
    labels = (image[:, 0, ::8, ::8] > 0).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(network(image), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "deeplab_v9"}, r"model.variant is 'deeplab_v9', must be one of deeplab_v1, deeplab_v2"),
        ({"backbone": "vgg19"}, r"model.backbone is 'vgg19', must be one of vgg16, "),
        ({"width": 0.5, "weights": "imagenet"}, r"model.width is 0.5, must be 1 for ImageNet weights"),
    ],
)
def test_configuration_is_checked(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        refuse(ModelConfig(), changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "aspp"}, r"^head is 'aspp', must be one of .*large_fov, aspp_s, aspp_l"),
        ({"dropout": 1.0}, r"^dropout is 1.0, must be in \[0, 1\)"),
    ],
)
def test_its_own_configuration_is_checked(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        refuse(DeepLabV2Config(), changes)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes: 1 is less than 2"):
        build_network(ModelConfig(backbone="resnet18", width=0.125), num_classes=1)
