"""The backbones that are here for published weights."""

import pytest
import torch
import torchvision

from crfnet.backbones import build_backbone
from crfnet.errors import InputError


@pytest.mark.parametrize("output_stride", [8, 16])
def test_xception_at_both_output_strides(output_stride: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone("aligned_xception", output_stride=output_stride)
        levels = backbone.levels(torch.empty(1, 3, 65, 97))
    assert levels["conv2"].shape == (1, 128, 17, 25)
    assert levels["out"].shape == (1, 2048, 64 // output_stride + 1, 96 // output_stride + 1)


def test_xception_at_stride_8_has_twice_the_rates_and_the_same_weights() -> None:
    with torch.device("meta"):
        coarse, fine = (build_backbone("aligned_xception", output_stride=s) for s in (16, 8))
    assert coarse.state_dict().keys() == fine.state_dict().keys()
    for name, rates in {"block4.rep.1": (1, 2), "block20.rep.4": (1, 2), "conv4": (2, 4)}.items():
        found = [net.get_submodule(name).conv1.dilation[0] for net in (coarse, fine)]
        assert tuple(found) == rates
    assert fine.get_submodule("block20.rep.7").conv1.dilation == (1, 1)


def test_mobilenet_is_torchvision_s_dilated_one() -> None:
    with torch.device("meta"):
        ours = build_backbone("mobilenet_v3_large", output_stride=16)
        theirs = torchvision.models.mobilenet_v3_large()
        features = ours(torch.empty(1, 3, 65, 97))
    assert features.shape == (1, 960, 5, 7)
    shapes = {k: v.shape for k, v in theirs.state_dict().items() if k.startswith("features.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("name", "cells"), [("mobilenet_v2_vainf", (20, 32)), ("mobilenet_v2_jfzhang95", (21, 33))]
)
def test_mobilenet_v2_at_stride_16(name: str, cells: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=16)
        levels = backbone.levels(torch.empty(1, 3, 321, 513))
    assert levels["conv2"].shape[1:] == (24, *(4 * count - count % 2 * 3 for count in cells))
    assert levels["out"].shape == (1, 320, *cells)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mobilenet_v3_large", {"output_stride": 8}, "output_stride is 8, must be 16 for mobilenet_v3_large"),
        ("aligned_xception", {"output_stride": 32}, "must be 8 or 16 for aligned_xception"),
        ("aligned_xception", {"output_stride": 16, "pretrained": True}, "no ImageNet weights are published"),
    ],
)
def test_what_they_cannot_be_is_refused(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_backbone(name, **changes)
