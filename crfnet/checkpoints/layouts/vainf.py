"""VainF/DeepLabV3Plus-Pytorch: DeepLab v3 and v3+ with ResNet-50, ResNet-101, MobileNetV2.

Traps: the output stride is not in the file (16 is its default and that of its published weights); v3 has
torchvision's 3x3 convolution in front of the classifier; the decoder of v3+ concatenates the low-level
features first, and has one 3x3 convolution; the max-pool rounds down; nothing is resized with aligned
corners.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crfnet.checkpoints.layouts.layout import Imported, Layout, Rules, State, counted, renamed, resnet_of
from crfnet.checkpoints.layouts.torchvision import ASPP_RULES, stem_and_stages
from crfnet.errors import InputError
from crfnet.models import (
    DeepLabV3Config,
    DeepLabV3PlusConfig,
    ModelConfig,
    ResNetOptions,
    VariantConfig,
)

__all__ = ["VAINF"]

NAME = "VainF/DeepLabV3Plus-Pytorch"
#: Its two parts count on.
MOBILE = (r"backbone\.(?:low|high)_level_features\.(.+)", r"backbone.features.\1")
V3: Rules = [
    *stem_and_stages(),
    MOBILE,
    *((rf"classifier\.classifier\.0\.{pattern}", ours) for pattern, ours in ASPP_RULES),
    (r"classifier\.classifier\.1\.weight", "extra.conv.weight"),
    (r"classifier\.classifier\.2\.(\w+)", r"extra.bn.\1"),
    (r"classifier\.classifier\.4\.(weight|bias)", r"classifier.\1"),
]
JOINED = "decoder.refine.conv2.0.conv.weight"  #: the convolution on the concatenated features
V3PLUS: Rules = [
    *stem_and_stages(),
    MOBILE,
    *((rf"classifier\.aspp\.{pattern}", ours) for pattern, ours in ASPP_RULES),
    (r"classifier\.project\.0\.weight", "decoder.reduce.conv2.conv.weight"),
    (r"classifier\.project\.1\.(\w+)", r"decoder.reduce.conv2.bn.\1"),
    (r"classifier\.classifier\.0\.weight", JOINED),
    (r"classifier\.classifier\.1\.(\w+)", r"decoder.refine.conv2.0.bn.\1"),
    (r"classifier\.classifier\.3\.(weight|bias)", r"classifier.\1"),
]


def _recognizes(names: Sequence[str]) -> bool:
    return any(name.startswith(("classifier.classifier.", "classifier.aspp.")) for name in names)


def _convert(state: State, output_stride: int | None) -> Imported:
    plus = any(name.startswith("classifier.aspp.") for name in state)
    _refuse_what_differs(state)
    ours, left = renamed(state, V3PLUS if plus else V3)
    mobile = "backbone.low_level_features.0.0.weight" in state
    backbone = "mobilenet_v2_vainf" if mobile else resnet_of(list(ours), NAME)
    encoder: dict[str, Any] = {"output_stride": output_stride or 16, "dropout": 0.1}
    variant: VariantConfig = DeepLabV3Config(extra_convolution=True, **encoder)
    if plus:
        variant = DeepLabV3PlusConfig(decoder_channels=(256,), **encoder)
        if JOINED in ours:
            ours[JOINED] = _encoder_first(ours[JOINED], ours.get("decoder.reduce.conv2.conv.weight"))
    notes = (
        () if output_stride else ("output stride 16: not in the file, its default (give --output-stride)",)
    )
    return Imported(
        what=f"{NAME}: DeepLab {'v3+' if plus else 'v3'}, {backbone}",
        config=ModelConfig(
            variant=variant,
            backbone=backbone,
            resnet=ResNetOptions(ceil_mode=mobile),  # MobileNet has no such pool, and the default
            preprocessing="imagenet",
            align_corners=False,
        ),
        num_classes=len(ours["classifier.bias"]) if "classifier.bias" in ours else 2,
        state=ours,
        skipped=counted(left, f"no part of DeepLab {'v3+' if plus else 'v3'}"),
        notes=notes,
    )


def _encoder_first(weight: Tensor, reduce: Tensor | None) -> Tensor:
    """Its input channels are (low, encoder), ours (encoder, low)."""
    low = 48 if reduce is None else len(reduce)
    return torch.cat([weight[:, low:], weight[:, :low]], 1)


def _refuse_what_differs(state: State) -> None:
    refused = {
        "backbone.block1.": "the Xception of its own (without batch normalization inside separable ones)",
        "backbone.stage4.": "HRNetV2, which is no backbone here",
    }
    for prefix, why in refused.items():
        if any(name.startswith(prefix) for name in state):
            raise InputError(f"{NAME}: {why}; resnet50, resnet101 and MobileNetV2 are read")
    if any(".body.0.weight" in name for name in state):
        raise InputError(
            f"{NAME}: separable convolutions without batch normalization between their halves, which no "
            "model here has"
        )


VAINF = Layout(NAME, _recognizes, _convert)
