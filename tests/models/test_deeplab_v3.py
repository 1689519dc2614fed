"""DeepLab v3: geometry, published sizes, torchvision's scores, both heads, and that it learns."""

from itertools import product

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from crfnet.checkpoints.layouts.torchvision import TORCHVISION
from crfnet.errors import InputError
from crfnet.models import DeepLabV3Config, build_network
from crfnet.models.aspp_v3 import ASPP
from crfnet.models.deeplab_v3 import DeepLabV3
from crfnet.resize import resize_logits
from tests.models.configs import model_config, refuse
from tests.tolerances import assert_close

#: ``aux_classifier`` of torchvision's networks with 21 classes, which only training uses.
AUXILIARY = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21


def tiny(backbone: str = "resnet18", **changes: object) -> DeepLabV3:
    width = 1.0 if backbone.startswith("timm:") else 0.125
    config = model_config("deeplab_v3", backbone=backbone, width=width, **changes)
    network = build_network(config, num_classes=3)
    assert isinstance(network, DeepLabV3)
    return network


def randomize_batch_norms(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)


@pytest.mark.parametrize(
    ("backbone", "output_stride", "cells"),
    [
        ("resnet18", 8, (41, 65)),
        ("resnet18", 16, (21, 33)),
        ("resnet18", 32, (11, 17)),
        ("vgg16", 8, (41, 65)),
        ("timm:mobilenetv3_small_050", 16, (21, 33)),
    ],
)
def test_logits_are_at_the_output_stride(backbone: str, output_stride: int, cells: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = tiny(backbone, output_stride=output_stride)
        assert network.eval()(torch.empty(2, 3, 321, 513)).shape == (2, 3, *cells)


@pytest.mark.parametrize(("backbone", "total"), [("resnet50", 42_004_074), ("resnet101", 60_996_202)])
def test_parameters_are_as_many_as_torchvision_s(backbone: str, total: int) -> None:
    with torch.device("meta"):
        config = model_config("deeplab_v3", backbone=backbone, extra_convolution=True)
        network = build_network(config, num_classes=21)
    assert sum(parameter.numel() for parameter in network.parameters()) + AUXILIARY == total


@torch.no_grad()
def test_scores_are_torchvision_s_with_its_weights() -> None:
    theirs = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    randomize_batch_norms(theirs)
    imported = TORCHVISION.convert(theirs.state_dict(), None)
    ours = build_network(imported.config, num_classes=21).eval()
    ours.load_state_dict(imported.state)
    for size in ((65, 97), (72, 44)):
        image = torch.randn(2, 3, *size)
        resized = resize_logits(ours(image), size, align_corners=False)
        assert_close(resized, theirs(image)["out"], "layer", torch.float32)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_of_aspp_follow_the_output_stride(output_stride: int, rates: list[int]) -> None:
    branches = tiny(output_stride=output_stride).aspp.branches
    assert [branch.conv.kernel_size[0] for branch in branches] == [1, 3, 3, 3]
    assert [branch.conv.dilation[0] for branch in branches[1:]] == rates


def test_aspp_is_its_branches_concatenated_and_projected() -> None:
    """A twin in plain functions: batch normalization of the evaluation mode starts as the identity."""
    aspp = ASPP(6, 4, [1, 2], image_pooling=True, separable=False, dropout=0.5).eval()
    x = torch.randn(3, 6, 5, 7)
    state = aspp.state_dict()
    scale = (1 + 1e-5) ** -0.5
    maps = [F.conv2d(x, state["branches.0.conv.weight"])]
    maps += [F.conv2d(x, state[f"branches.{i}.conv.weight"], padding=i, dilation=i) for i in (1, 2)]
    mean = x.flatten(2).mean(2)[:, :, None, None]
    maps.append(F.conv2d(mean, state["image_pooling.conv.weight"]).expand(-1, -1, 5, 7))
    joined = torch.cat([F.relu(scale * one) for one in maps], 1)
    expected = F.relu(scale * F.conv2d(joined, state["project.conv.weight"]))
    assert_close(aspp(x), expected, "layer", torch.float32)


def test_without_image_pooling_a_far_pixel_changes_nothing() -> None:
    x = torch.randn(1, 6, 9, 9)
    changed = x.clone()
    changed[..., 8, 8] += 10
    for image_pooling in (False, True):
        aspp = ASPP(6, 4, [2], image_pooling=image_pooling, separable=False, dropout=0.0).eval()
        same = torch.equal(aspp(x)[..., 0, 0], aspp(changed)[..., 0, 0])
        assert same is not image_pooling


def test_separable_branches_are_depthwise_and_pointwise_with_batch_norm_and_relu_behind_each() -> None:
    branch = tiny(separable=True).aspp.branches[1]
    assert [type(layer) for layer in branch] == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    depthwise, pointwise = branch.depthwise, branch.conv
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == 64
    assert (depthwise.dilation, pointwise.kernel_size) == ((6, 6), (1, 1))
    assert tiny(separable=False).aspp.branches[1].conv.groups == 1


def test_dropout_is_behind_the_projection() -> None:
    aspp = tiny(dropout=0.3).aspp
    assert [layer.p for layer in aspp.modules() if isinstance(layer, nn.Dropout)] == [0.3]
    aspp.train()
    assert (aspp(torch.randn(2, 64, 9, 9)) == 0).float().mean() > 0.3


@pytest.mark.parametrize(("cascade", "blocks"), [("block4", 4), ("block5", 5), ("block6", 6), ("block7", 7)])
def test_cascade_has_its_blocks_and_no_aspp(cascade: str, blocks: int) -> None:
    network = tiny("resnet50", cascade=cascade, multi_grid=(1, 2, 1))
    assert [name for name, _ in network.backbone.named_children() if "layer" in name] == [
        f"layer{number}" for number in range(1, blocks + 1)
    ]
    assert isinstance(network.aspp, nn.Identity)
    assert network.classifier.in_channels == network.backbone.out_channels
    for number, rate in zip(range(4, blocks + 1), (2, 4, 8, 16), strict=False):
        units = network.backbone.get_submodule(f"layer{number}")
        assert [unit.conv2.dilation[0] for unit in units] == [rate, 2 * rate, rate]
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 65, 65)).shape == (1, 3, 5, 5)


VARIANTS = [
    {},
    {"image_pooling": False},
    {"separable": True, "extra_convolution": True},
    {"cascade": "block5"},
    {"output_stride": 8},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=[",".join(changes) or "aspp" for changes in VARIANTS])
def test_it_learns_one_batch(changes: dict[str, object]) -> None:
    network = tiny(dropout=0.0, **changes).train()
    image = torch.randn(2, 3, 33, 33)
    stride = network.output_stride
    labels = (image[:, 0, ::stride, ::stride] > 0).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        loss = F.cross_entropy(network(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    assert loss < 0.3


def test_one_image_cannot_train_the_image_level_branch() -> None:
    image = torch.randn(1, 3, 33, 33)
    with pytest.raises(ValueError, match=r"^image: a batch of 1 in training, must be at least 2"):
        tiny()(image)
    assert tiny(image_pooling=False)(image).shape == (1, 3, 3, 3)
    assert tiny(batch_norm="frozen")(image).shape == (1, 3, 3, 3)
    assert tiny().eval()(image).shape == (1, 3, 3, 3)


def test_every_parameter_is_in_one_group_and_the_head_is_what_is_not_backbone() -> None:
    network = tiny("resnet18", extra_convolution=True)
    groups = network.parameter_groups()
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    trunk = {id(parameter) for parameter in network.backbone.parameters()}
    assert {id(p) for p in groups["backbone_weight"] + groups["backbone_bias"]} == trunk
    assert all(parameter.ndim == 1 for parameter in groups["head_bias"] + groups["backbone_bias"])
    assert id(network.classifier.bias) in {id(parameter) for parameter in groups["head_bias"]}


REFUSED = [
    ({"output_stride": 4}, r"^output_stride is 4, must be one of 8, 16, 32"),
    ({"eval_output_stride": 4}, r"^eval_output_stride is 4, must be 8, 16, 32 or null"),
    ({"multi_grid": (1, 0, 4)}, r"^multi_grid is \(1, 0, 4\), must be three rates >= 1"),
    ({"rates": (6, 0)}, r"^rates is \(6, 0\), must be rates >= 1"),
    (
        {"rates": (6, 9), "output_stride": 32},
        r"^rates is \(6, 9\), must be .* even ones for output stride",
    ),
    ({"cascade": "block5", "separable": True}, r"^cascade is 'block5', must be none with the fields of"),
    ({"batch_norm_momentum": 0.0}, r"^batch_norm_momentum is 0.0, must be in \(0, 1\]"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        refuse(DeepLabV3Config(), changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "aspp_s"}, r"unknown key model.deeplab_v3.head"),
        ({"decoder_reduce": 32}, r"unknown key model.deeplab_v3.decoder_reduce"),
        ({"backbone": "vgg16"}, r"model.deeplab_v3.output_stride is 16, must be 8 for vgg16"),
        (
            {"multi_grid": (1, 2, 4), "backbone": "resnet18"},
            r"model.deeplab_v3.multi_grid is .1, 2, 4., must be null for resnet18",
        ),
        (
            {"cascade": "block5", "backbone": "timm:xception41"},
            r"model.deeplab_v3.cascade: timm:xception41 has no block4",
        ),
        ({"rates": (0,)}, r"model.deeplab_v3.rates is \(0,\), must be rates >= 1"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        model_config("deeplab_v3", **changes)


@pytest.mark.parametrize(
    ("variant", "changes"),
    list(
        product(
            ["deeplab_v1", "deeplab_v2"],
            [{"output_stride": 8}, {"batch_norm_momentum": 0.01}, {"separable": True}],
        )
    ),
)
def test_older_variants_refuse_what_came_with_v3(variant: str, changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"unknown key model.{variant}.{name}"):
        model_config(variant, backbone="vgg16", head="large_fov", **changes)


@pytest.mark.parametrize("variant", ["deeplab_v1", "deeplab_v2"])
def test_older_variants_do_not_synchronize_batch_norm(variant: str) -> None:
    with pytest.raises(
        InputError, match=rf"model.batch_norm is 'sync', must be train or frozen \({variant}\)"
    ):
        model_config(variant, backbone="vgg16", head="large_fov", batch_norm="sync")
