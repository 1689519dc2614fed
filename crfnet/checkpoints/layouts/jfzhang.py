"""jfzhang95/pytorch-deeplab-xception: DeepLab v3+ with ResNet-101, Xception and MobileNetV2.

Traps: of the ResNet multi-grid 1, 2, 4 on the dilation of stage 4 (2, 4, 8 at output stride 16, 4, 8, 16 at
8), all units of stage 3 dilated at 8, and a max-pool that rounds down; of the Xception shortcuts that see
rectified inputs (its ReLUs work in place); MobileNet's tensors stored twice; the decoder concatenates the
encoder's features first; everything is stretched with aligned corners, to whatever size.
"""

import re
from collections.abc import Sequence

from crfnet.backbones import RESNETS
from crfnet.checkpoints.layouts.layout import Imported, Layout, Rules, State, counted, renamed, resnet_of
from crfnet.checkpoints.layouts.torchvision import stem_and_stages
from crfnet.errors import InputError
from crfnet.models import DeepLabV3PlusConfig, ModelConfig, ResNetOptions

__all__ = ["JFZHANG"]

NAME = "jfzhang95/pytorch-deeplab-xception"
#: MobileNet's units: he numbers convolutions, norms and ReLUs in a row, torchvision groups them; the first
#: unit has no 1x1 convolution in front.
PLACES = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}


def _rules(second: int, last: int) -> Rules:
    """With the numbers of the second convolution and of the classifier in ``decoder.last_conv``."""
    return [
        *stem_and_stages(),
        (r"(backbone\.(?:bn|conv|block)\d+\..+)", r"\1"),
        (r"backbone\.features\.0\.(.+)", r"backbone.features.0.\1"),
        (r"backbone\.features\.(\d+)\.conv\.([013467])\.(\w+)", _mobile_unit),
        (r"aspp\.aspp([1-4])\.atrous_conv\.weight", lambda m: f"aspp.branches.{int(m[1]) - 1}.conv.weight"),
        (r"aspp\.aspp([1-4])\.bn\.(\w+)", lambda m: f"aspp.branches.{int(m[1]) - 1}.bn.{m[2]}"),
        (r"aspp\.global_avg_pool\.1\.weight", "aspp.image_pooling.conv.weight"),
        (r"aspp\.global_avg_pool\.2\.(\w+)", r"aspp.image_pooling.bn.\1"),
        (r"aspp\.conv1\.weight", "aspp.project.conv.weight"),
        (r"aspp\.bn1\.(\w+)", r"aspp.project.bn.\1"),
        (r"decoder\.conv1\.weight", "decoder.reduce.conv2.conv.weight"),
        (r"decoder\.bn1\.(\w+)", r"decoder.reduce.conv2.bn.\1"),
        (r"decoder\.last_conv\.0\.weight", "decoder.refine.conv2.0.conv.weight"),
        (r"decoder\.last_conv\.1\.(\w+)", r"decoder.refine.conv2.0.bn.\1"),
        (rf"decoder\.last_conv\.{second}\.weight", "decoder.refine.conv2.1.conv.weight"),
        (rf"decoder\.last_conv\.{second + 1}\.(\w+)", r"decoder.refine.conv2.1.bn.\1"),
        (rf"decoder\.last_conv\.{last}\.(weight|bias)", r"classifier.\1"),
    ]


def _recognizes(names: Sequence[str]) -> bool:
    return "aspp.aspp1.atrous_conv.weight" in names


def _convert(state: State, output_stride: int | None) -> Imported:
    if any(name.startswith("backbone.layer0.") for name in state):
        raise InputError(f"{NAME}: DRN, which is no backbone here; resnet101, Xception, MobileNetV2 are read")
    # Files from before its decoder had dropout count otherwise.
    dropout = "decoder.last_conv.8.weight" in state
    ours, left = renamed(state, _rules(4, 8) if dropout else _rules(3, 6))
    # MobileNet's tensors are there twice, under the names of its halves, too.
    twice = [name for name in left if "_level_features." in name and _whole(name) in state]
    left = [name for name in left if name not in twice]
    backbone = _backbone(state, ours)
    resnet = backbone in RESNETS
    notes = (
        () if output_stride else ("output stride 16: not in the file, its default (give --output-stride)",)
    )
    return Imported(
        what=f"{NAME}: DeepLab v3+, {backbone}",
        config=ModelConfig(
            variant=DeepLabV3PlusConfig(
                output_stride=output_stride or 16,  # type: ignore[arg-type]
                multi_grid=(1, 2, 4) if resnet else None,
                dropout=0.5,
            ),
            backbone=backbone,
            resnet=ResNetOptions(ceil_mode=False, dilate_first_unit=True) if resnet else ResNetOptions(),
            preprocessing="imagenet",
            align_corners="stretch",
        ),
        num_classes=len(ours["classifier.bias"]) if "classifier.bias" in ours else 2,
        state=ours,
        skipped=(*counted(twice, "the same tensors again"), *counted(left, "no part of DeepLab v3+")),
        notes=notes,
    )


def _backbone(state: State, ours: State) -> str:
    if "backbone.block20.rep.1.conv1.weight" in state:
        return "aligned_xception"
    if "backbone.features.0.0.weight" in state:
        return "mobilenet_v2_jfzhang95"
    return resnet_of(list(ours), NAME)


def _whole(name: str) -> str:
    """Of a tensor of MobileNet's upper half, which counts from 4 on as the whole does, or its lower."""
    return name.replace("low_level_features.", "features.").replace("high_level_features.", "features.")


def _mobile_unit(match: re.Match[str]) -> str:
    unit, layer, rest = match.groups()
    return f"backbone.features.{unit}.conv.{(FIRST if unit == '1' else PLACES)[layer]}.{rest}"


JFZHANG = Layout(NAME, _recognizes, _convert)
