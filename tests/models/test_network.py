"""What v3 and v3+ share: another output stride with the same weights, modes of batch normalization."""

import pytest
import torch
from torch import nn

from crfnet.errors import InputError
from crfnet.models import Network, build_network
from tests.models.configs import model_config
from tests.tolerances import assert_close


def tiny(variant: str = "deeplab_v3", backbone: str = "resnet50", **changes: object) -> Network:
    width = 1.0 if backbone.startswith("timm:") else 0.125
    config = model_config(variant, backbone=backbone, width=width, **changes)
    network = build_network(config, num_classes=3)
    assert isinstance(network, Network)
    return network


@pytest.mark.parametrize(
    ("variant", "backbone", "changes"),
    [
        ("deeplab_v3", "resnet50", {"multi_grid": (1, 2, 4)}),
        ("deeplab_v3", "resnet18", {"cascade": "block6"}),
        ("deeplab_v3plus", "timm:mobilenetv3_small_050", {}),
    ],
)
@torch.no_grad()
def test_another_output_stride_is_the_network_built_for_it(
    variant: str, backbone: str, changes: dict[str, object]
) -> None:
    network = tiny(variant, backbone, output_stride=16, **changes).eval()
    image = torch.randn(1, 3, 33, 49)
    names = list(network.state_dict())
    at_16 = network(image)
    for stride in (8, 32, 16):
        other = tiny(variant, backbone, output_stride=stride, **changes).eval()
        other.load_state_dict(network.state_dict())
        network.set_output_stride(stride)
        assert network.output_stride == stride
        assert_close(network(image), other(image), "layer", torch.float32)
    assert torch.equal(network(image), at_16)
    assert list(network.state_dict()) == names


def test_xception_at_another_output_stride_has_the_strides_and_rates_of_one_built_for_it() -> None:
    def convolutions(network: Network) -> list[tuple[object, ...]]:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        return [(layer.stride, layer.padding, layer.dilation) for layer in layers]

    with torch.device("meta"):
        network = tiny("deeplab_v3plus", "timm:xception41", output_stride=16)
        dense = convolutions(tiny("deeplab_v3plus", "timm:xception41", output_stride=8))
    assert convolutions(network) != dense
    network.set_output_stride(8)
    assert convolutions(network) == dense


@torch.no_grad()
def test_evaluation_has_its_own_output_stride() -> None:
    network = tiny(output_stride=16, eval_output_stride=8, batch_norm="frozen")
    image = torch.randn(1, 3, 65, 65)
    assert network.train()(image).shape[2:] == (5, 5)
    assert network.eval()(image).shape[2:] == (9, 9)
    rates = [branch.conv.dilation[0] for branch in network.aspp.branches]
    assert rates == [1, 12, 24, 36]
    assert network.train()(image).shape[2:] == (5, 5)


@torch.no_grad()
def test_strided_cells_are_every_second_of_the_dense_ones() -> None:
    """Without ASPP's context both strides compute the same features; at 8 there are cells in between."""
    network = tiny(backbone="resnet18", cascade="block4", output_stride=32).eval()
    image = torch.randn(2, 3, 65, 97)
    strided = network(image)
    network.set_output_stride(16)
    assert_close(network(image)[..., ::2, ::2], strided, "layer", torch.float32)
    network.set_output_stride(8)
    assert_close(network(image)[..., ::4, ::4], strided, "layer", torch.float32)


def test_a_backbone_that_is_built_otherwise_is_refused() -> None:
    with torch.device("meta"):
        network = tiny(backbone="timm:convnext_atto", output_stride=16)
    with pytest.raises(
        InputError, match=r"output_stride: timm:convnext_atto is built otherwise for 8 than for 16"
    ):
        network.set_output_stride(8)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def test_frozen_batch_norm_is_that_of_the_head_too() -> None:
    network = tiny("deeplab_v3plus", "resnet18", batch_norm="frozen").train()
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network(torch.randn(1, 3, 33, 33)).sum().backward()
    after = network.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(layer.training or layer.weight.requires_grad for layer in batch_norms(network))
    trained = [parameter for group in network.parameter_groups().values() for parameter in group]
    frozen = {id(parameter) for layer in batch_norms(network) for parameter in layer.parameters()}
    assert trained
    assert not frozen & {id(parameter) for parameter in trained}


@pytest.mark.parametrize("backbone", ["resnet18", "timm:resnet18"])
def test_sync_converts_every_batch_norm_and_alone_it_is_the_plain_one(backbone: str) -> None:
    plain, sync = tiny(backbone=backbone).train(), tiny(backbone=backbone, batch_norm="sync").train()
    assert {type(layer) for layer in batch_norms(sync)} == {nn.SyncBatchNorm}
    assert len(batch_norms(sync)) == len(batch_norms(plain))
    sync.load_state_dict(plain.state_dict())
    image = torch.randn(3, 3, 33, 33)
    plain.aspp.dropout.p = sync.aspp.dropout.p = 0.0
    assert_close(sync(image), plain(image), "layer", torch.float32)
    sync.set_output_stride(8)
    assert sync(image).shape[2:] == (5, 5)


def test_momentum_is_the_share_of_a_batch_in_the_statistics() -> None:
    network = tiny(backbone="resnet18", batch_norm_momentum=0.0003).train()
    image = torch.randn(2, 3, 33, 33)
    network(image)
    with torch.no_grad():
        mean = network.backbone.conv1(image).mean((0, 2, 3))
    assert {layer.momentum for layer in batch_norms(network)} == {0.0003}
    assert_close(network.backbone.bn1.running_mean, 0.0003 * mean, "layer", torch.float32)
