"""kazuto1011/deeplab-pytorch: DeepLab v2 with the ResNet-101 of Caffe, on three scales (MSC).

Published for VOC (21 classes) and COCO-Stuff 10k and 164k (182 classes). Traps: the strides are on the 1x1
convolutions, the max-pool rounds up, every unit of a dilated stage is dilated; images are BGR minus Caffe's
mean; scales and scores are resized without aligned corners.
"""

import re
from collections.abc import Sequence

from crfnet.checkpoints.layouts.layout import Imported, Layout, Rules, State, counted, renamed, resnet_of
from crfnet.errors import InputError
from crfnet.models import DeepLabV2Config, ModelConfig, ResNetOptions

__all__ = ["KAZUTO"]

NAME = "kazuto1011/deeplab-pytorch"
UNIT = {"reduce": ("conv1", "bn1"), "conv3x3": ("conv2", "bn2"), "increase": ("conv3", "bn3")}
UNIT["shortcut"] = ("downsample.0", "downsample.1")


def _unit(match: re.Match[str]) -> str:
    """Its stages count from 2 and its units from 1; ours from 1 and from 0."""
    stage, unit, part, kind, rest = match.groups()
    return f"backbone.layer{int(stage) - 1}.{int(unit) - 1}.{UNIT[part][kind == 'bn']}.{rest}"


RULES: Rules = [
    (r"layer1\.conv1\.(conv|bn)\.(.+)", r"backbone.\g<1>1.\2"),
    (r"layer([2-5])\.block(\d+)\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)\.(.+)", _unit),
    (r"aspp\.c([0-3])\.(weight|bias)", r"head.branches.\1.fc8.\2"),
]


def _recognizes(names: Sequence[str]) -> bool:
    return any(name.removeprefix("base.") == "layer1.conv1.conv.weight" for name in names)


def _convert(state: State, output_stride: int | None) -> Imported:
    multi_scale = "base.layer1.conv1.conv.weight" in state
    plain = {name.removeprefix("base."): value for name, value in state.items()}
    if "aspp.c0.weight" not in plain:
        raise InputError(
            f"{NAME}: not its DeepLab v2, the only one that it publishes weights of and that is read"
        )
    if output_stride not in (None, 8):
        raise InputError(f"output stride: {output_stride}, must be 8 for DeepLab v2")
    ours, left = renamed(plain, RULES)
    backbone = resnet_of(list(ours), NAME)
    return Imported(
        what=f"{NAME}: DeepLab v2, {backbone}, {'three scales (MSC)' if multi_scale else 'one scale'}",
        config=ModelConfig(
            variant=DeepLabV2Config(head="aspp_l", multi_scale=multi_scale),
            backbone=backbone,
            resnet=ResNetOptions(stride_on="1x1", ceil_mode=True),
            batch_norm="frozen",
            preprocessing="caffe",
            align_corners=False,
        ),
        num_classes=len(plain["aspp.c0.weight"]),
        state=ours,
        skipped=counted(left, "no part of DeepLab v2"),
        notes=(
            "rates 6, 12, 18, 24: not in the file, those of its published weights (give --rates; 3 6 9 12 "
            "for its DeepLabV2S)",
        ),
    )


KAZUTO = Layout(NAME, _recognizes, _convert)
