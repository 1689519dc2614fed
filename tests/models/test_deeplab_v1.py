"""DeepLab v1: published sizes and fields of view, both geometries, fc6 from VGG's, multi-scale features."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.vgg import VGG16, decimated_fc
from crfnet.errors import InputError
from crfnet.models import DeepLabV1Config, ModelConfig, ResNetOptions, VGGOptions, build_network
from crfnet.models.deeplab_v1 import FC6, DeepLabV1, MscBranch
from crfnet.resize import resize_logits
from tests.models.configs import model_config, refuse
from tests.tolerances import assert_close

HEADS = ("7x7", "4x4", "4x4_r8", "large_fov")
TINY = {"variant": "deeplab_v1", "backbone": "vgg16", "width": 0.125}


def tiny(head: str = "large_fov", **changes: object) -> DeepLabV1:
    return build_network(model_config(**(TINY | {"head": head} | changes)), num_classes=3)


@pytest.mark.parametrize(
    ("head", "parameters"),
    [("7x7", 134_346_581), ("4x4", 65_140_565), ("4x4_r8", 65_140_565), ("large_fov", 20_505_429)],
)
def test_parameters_are_as_many_as_published(head: str, parameters: int) -> None:
    """v1 table 2: 134.3, 65.1, 65.1 and 20.5 million."""
    with torch.device("meta"):
        network = build_network(model_config(**(TINY | {"head": head, "width": 1.0})), num_classes=21)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("head", "pixels"), list(zip(HEADS, (224, 128, 224, 224), strict=True)))
def test_field_of_view(head: str, pixels: int) -> None:
    """8 k_e + 24 pixels (v1 table 2), k_e the support of fc6 in cells, read off the gradient."""
    network = tiny(head)
    features = torch.zeros(1, network.backbone.out_channels, 41, 41, requires_grad=True)
    out = network.head.fc6(features)
    assert out.shape[2:] == (41, 41)
    out[0, :, 20, 20].sum().backward()
    touched = features.grad.abs().sum((0, 1, 2)).nonzero()
    assert 8 * int(touched.max() - touched.min() + 1) + 24 == pixels
    assert int(touched.max() + touched.min()) == 40  # centered


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("pools", "size", "cells"),
    [("3x3", (321, 513), (41, 65)), ("2x2", (306, 514), (39, 65)), ("2x2", (321, 100), (41, 13))],
)
def test_logits_are_at_stride_8(head: str, pools: str, size: tuple[int, int], cells: tuple[int, int]) -> None:
    with torch.device("meta"):
        logits = tiny(head, pools=pools)(torch.empty(2, 3, *size))
    assert logits.shape == (2, 3, *cells)


@pytest.mark.parametrize(("pools", "first"), [("3x3", 0.0), ("2x2", 0.5)])
def test_where_the_first_cell_lies(pools: str, first: float) -> None:
    """The center of its receptive field, layer by layer; the crop of the 2x2 prototxt begins at 1."""
    center, jump = 0.0, 1
    for layer in VGG16(width=0.125, pools=pools).features:
        if isinstance(layer, nn.Conv2d):
            center += ((layer.kernel_size[0] - 1) * layer.dilation[0] / 2 - layer.padding[0]) * jump
        elif isinstance(layer, nn.MaxPool2d):
            center += ((layer.kernel_size - 1) / 2 - layer.padding) * jump
            jump *= layer.stride
    assert (center, jump) == (first, 8)


def test_outputs_of_the_pools_end_with_the_features() -> None:
    backbone, image = VGG16(width=0.125), torch.randn(2, 3, 33, 49)
    pooled = backbone.pooled(image)
    assert [x.shape[2:] for x in pooled] == [(17, 25), (9, 13), (5, 7), (5, 7), (5, 7)]
    assert torch.equal(pooled[-1], backbone(image))


def test_only_large_fov_averages_pool5() -> None:
    assert {head for head in HEADS if isinstance(tiny(head).pool5a, nn.AvgPool2d)} == {"large_fov"}


@pytest.mark.parametrize(("kernel", "taps"), [(7, [0, 1, 2, 3, 4, 5, 6]), (4, [0, 2, 4, 6]), (3, [0, 3, 6])])
@pytest.mark.parametrize("every", [1, 4])
def test_decimation_keeps_a_regular_subgrid(kernel: int, taps: list[int], every: int) -> None:
    state = {
        "classifier.0.weight": torch.randn(8, 3 * 49),
        "classifier.0.bias": torch.randn(8),
        "classifier.3.weight": torch.randn(8, 8),
        "classifier.3.bias": torch.randn(8),
    }
    fc = decimated_fc(state, kernel=kernel, every=every)
    fc6 = state["classifier.0.weight"].view(8, 3, 7, 7)[::every][:, :, taps][..., taps]
    assert torch.equal(fc["fc6.weight"], fc6)
    assert torch.equal(fc["fc7.weight"][:, :, 0, 0], state["classifier.3.weight"][::every, ::every])


@pytest.mark.parametrize("head", HEADS)
def test_imagenet_start(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow VGG-16 stands in for torchvision's: nothing is downloaded."""
    state = {key: torch.randn(value.shape) for key, value in VGG16(width=0.125).state_dict().items()}
    state["classifier.0.weight"], state["classifier.0.bias"] = torch.randn(512, 64 * 49), torch.randn(512)
    state["classifier.3.weight"], state["classifier.3.bias"] = torch.randn(512, 512), torch.randn(512)
    for module in ("backbones.vgg", "models.network"):
        monkeypatch.setattr(f"crfnet.{module}.imagenet_state", lambda _: state)
    for module in ("backbones.vgg", "models.deeplab_v1"):
        monkeypatch.setattr(f"crfnet.{module}.scaled_channels", lambda channels, _: channels // 8)
    network = tiny(head, width=1.0, weights="imagenet")
    kernel, _, channels = FC6[head]
    every = 4096 // channels
    assert torch.equal(network.backbone.features[0].weight, state["features.0.weight"])
    expected = state["classifier.0.weight"].view(512, 64, 7, 7)[::every]
    step = {7: 1, 4: 2, 3: 3}[kernel]
    assert torch.equal(network.head.fc6.weight, expected[:, :, ::step, ::step])
    assert torch.equal(network.head.fc7.bias, state["classifier.3.bias"][::every])
    assert 0.005 < float(network.head.fc8.weight.detach().std()) < 0.02


def msc(**changes: object) -> DeepLabV1:
    """With branches that count as much as the trunk; they start a thousand times smaller."""
    network = tiny(**({"multi_scale_features": True, "dropout": 0.0} | changes))
    for branch in network.msc:
        for layer in (branch.conv, branch.fc, branch.fc8):
            nn.init.kaiming_normal_(layer.weight)
    return network


@pytest.mark.parametrize("size", [(65, 33), (60, 41)])
@torch.no_grad()
def test_msc_is_dense_in_evaluation_and_the_same_at_every_eighth_pixel(size: tuple[int, int]) -> None:
    network, image = msc(), torch.randn(2, 3, *size)
    strided, dense = network.train()(image), network.eval()(image)
    assert dense.shape == (2, 3, *size)
    at_stride = dense[:, :, ::8, ::8]
    assert strided.shape == at_stride.shape
    assert_close(at_stride, strided, "exact", torch.float32)
    resized = resize_logits(strided, size, align_corners=True)
    assert (dense - resized).abs().max() > 1e-3  # more than the strided scores resized


@torch.no_grad()
def test_msc_adds_the_scores_of_image_and_pools_to_the_plain_network() -> None:
    network, image = msc().train(), torch.randn(1, 3, 33, 33)
    plain = tiny(dropout=0.0).train()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("msc.")})
    maps = [image, *network.backbone.pooled(image)[:4]]
    added = sum(branch(x, dense=False) for branch, x in zip(network.msc, maps, strict=True))
    assert_close(network(image), plain(image) + added, "exact", torch.float32)


def test_msc_of_full_size_has_640_more_channels() -> None:
    with torch.device("meta"):
        network = build_network(model_config(**(TINY | {"width": 1.0, "multi_scale_features": True})), 21)
    assert sum(branch.fc8.in_channels for branch in network.msc) == 640
    assert [branch.conv.stride[0] for branch in network.msc] == [8, 4, 2, 1, 1]
    assert [branch.conv.in_channels for branch in network.msc] == [3, 64, 128, 256, 512]


def test_msc_trains_the_classifiers_alone() -> None:
    groups = tiny(multi_scale_features=True).parameter_groups()
    trained = {id(p) for group in groups.values() for p in group}
    network = tiny(multi_scale_features=True)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {
        name for name, _ in network.named_parameters() if name.startswith(("msc.", "head.fc8."))
    }
    assert len(groups["head_weight"]) == len(groups["head_bias"]) == 6
    assert len(groups["backbone_weight"]) == len(groups["backbone_bias"]) == 10


def test_msc_branches_start_near_zero() -> None:
    branch = MscBranch(64, 1.0, 21, 4, 0.5)
    assert 0.0009 < float(branch.conv.weight.detach().std()) < 0.0011
    assert 0.009 < float(branch.fc8.weight.detach().std()) < 0.011


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_is_in_one_group(head: str) -> None:
    network = tiny(head)
    groups = network.parameter_groups()
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    assert [tuple(p.shape) for p in groups["head_bias"]] == [(3,)]
    assert {p.ndim for p in groups["backbone_bias"]} == {1}


@pytest.mark.parametrize(
    "changes",
    [
        *({"head": head} for head in HEADS),
        {"head": "4x4", "pools": "2x2"},
        {"multi_scale_features": True},
    ],
)
def test_one_image_is_learned(changes: dict[str, object]) -> None:
    network = (msc if "multi_scale_features" in changes else tiny)(**({"dropout": 0.0} | changes)).train()
    image, labels = two_halves()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(network(image), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert losses[-1] < 0.3 * losses[0]


def two_halves() -> tuple[Tensor, Tensor]:
    """A picture whose right half is bright, and the labels of its 9 x 9 cells."""
    image = torch.randn(1, 3, 65, 65)
    image[..., 33:] += 3
    labels = torch.zeros(1, 9, 9, dtype=torch.long)
    labels[..., 5:] = 1
    return image, labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet18"}, r"model.backbone is 'resnet18', must be vgg16"),
        ({"pools": "2x2", "multi_scale_features": True}, r"model.vgg.pools is '2x2', must be 3x3 with"),
        ({"variant": "deeplab_v2", "multi_scale_features": True}, r"model.deeplab_v2.multi_scale_features"),
        ({"multi_scale": True}, r"model.deeplab_v1.multi_scale"),
        ({"stride_on": "1x1"}, r"model.resnet.stride_on is given, but model.backbone is vgg16"),
        (
            {"variant": "deeplab_v2", "stride_on": "1x1"},
            r"model.resnet.stride_on is given, but model.backbone is vgg16",
        ),
        (
            {"variant": "deeplab_v2", "ceil_mode": False},
            r"model.resnet.ceil_mode is given",
        ),
    ],
)
def test_configuration_is_checked(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        model_config(**(TINY | changes))


def test_its_own_head_is_checked() -> None:
    with pytest.raises(InputError, match=r"^head is 'aspp_l', must be one of 7x7, 4x4, 4x4_r8, large_fov"):
        refuse(DeepLabV1Config(), {"head": "aspp_l"})


@pytest.mark.parametrize(("option", "value"), [("resnet", ResNetOptions("1x1")), ("vgg", VGGOptions("2x2"))])
def test_options_of_another_backbone_are_refused(option: str, value: object) -> None:
    backbone = "vgg16" if option == "resnet" else "resnet18"
    with pytest.raises(InputError, match=f"model.{option} is .*, must be left out for"):
        ModelConfig(backbone=backbone, **{option: value})
