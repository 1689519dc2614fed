"""torchvision's DeepLabV3 with ResNet-50, ResNet-101 and MobileNetV3-Large.

Traps: output stride 8 (MobileNet: 16) with the rates 12, 24, 36, no multi-grid, a 3x3 convolution between
ASPP and classifier, the max-pool rounds down, scores are resized without aligned corners; an auxiliary
classifier that only training needs. Its weights are trained on COCO with the labels of VOC.
"""

from collections.abc import Sequence
from typing import Any

from crfnet.checkpoints.layouts.layout import Imported, Layout, Rules, State, counted, renamed, resnet_of
from crfnet.errors import InputError
from crfnet.models import DeepLabV3Config, ModelConfig, ResNetOptions

__all__ = ["ASPP_RULES", "TORCHVISION", "stem_and_stages"]

NAME = "torchvision"

#: ASPP as torchvision names it, which VainF/DeepLabV3Plus-Pytorch took over.
ASPP_RULES: Rules = [
    (r"convs\.([0-3])\.0\.weight", r"aspp.branches.\1.conv.weight"),
    (r"convs\.([0-3])\.1\.(\w+)", r"aspp.branches.\1.bn.\2"),
    (r"convs\.4\.1\.weight", r"aspp.image_pooling.conv.weight"),
    (r"convs\.4\.2\.(\w+)", r"aspp.image_pooling.bn.\1"),
    (r"project\.0\.weight", r"aspp.project.conv.weight"),
    (r"project\.1\.(\w+)", r"aspp.project.bn.\1"),
]


def stem_and_stages() -> Rules:
    """Of a ResNet; the names are ours."""
    return [(r"(backbone\.(conv1|bn1|layer[1-4]\..+)(\..+)?)", r"\1")]


RULES: Rules = [
    *stem_and_stages(),
    (r"backbone\.(\d+)\.(.+)", r"backbone.features.\1.\2"),
    *((rf"classifier\.0\.{pattern}", ours) for pattern, ours in ASPP_RULES),
    (r"classifier\.1\.weight", "extra.conv.weight"),
    (r"classifier\.2\.(\w+)", r"extra.bn.\1"),
    (r"classifier\.4\.(weight|bias)", r"classifier.\1"),
]


#: What only its other segmentation networks have.
OTHERS = {
    "FCN": ("classifier.0.weight", "classifier.1.running_mean", "classifier.4.weight"),
    "LRASPP": ("classifier.cbr.0.weight", "classifier.low_classifier.weight"),
}


def _recognizes(names: Sequence[str]) -> bool:
    return "classifier.0.convs.0.0.weight" in names or _other(names) is not None


def _other(names: Sequence[str]) -> str | None:
    """Which of its other networks it is."""
    return next((name for name, own in OTHERS.items() if all(key in names for key in own)), None)


def _convert(state: State, output_stride: int | None) -> Imported:
    if other := _other(list(state)):
        raise InputError(
            f"{NAME}: {other}, which is no DeepLab and is not converted; wrap torchvision's own network in "
            "Segmenter"
        )
    ours, left = renamed(state, RULES)
    resnet = "backbone.conv1.weight" in state
    backbone = resnet_of(list(ours), NAME) if resnet else "mobilenet_v3_large"
    if not resnet and output_stride not in (None, 16):
        raise InputError(f"output stride: {output_stride}, must be 16 for {backbone}")
    # Its rates are 12, 24, 36 at whatever output stride; ours are those of 16, doubled at 8.
    geometry: dict[str, Any] = {"output_stride": output_stride or 8}
    if not resnet:
        geometry = {"output_stride": 16, "rates": (12, 24, 36)}
    auxiliary = [name for name in left if name.startswith("aux_classifier.")]
    rest = [name for name in left if not name.startswith("aux_classifier.")]
    return Imported(
        what=f"{NAME}: DeepLabV3, {backbone}",
        config=ModelConfig(
            variant=DeepLabV3Config(extra_convolution=True, dropout=0.5, **geometry),
            backbone=backbone,
            resnet=ResNetOptions(ceil_mode=not resnet),  # MobileNet has no such pool, and the default
            preprocessing="imagenet",
            align_corners=False,
        ),
        num_classes=len(state["classifier.4.weight"]) if "classifier.4.weight" in state else 2,
        state=ours,
        skipped=(
            *counted(auxiliary, "auxiliary classifier, for training alone"),
            *counted(rest, "no part of DeepLab v3"),
        ),
    )


TORCHVISION = Layout(NAME, _recognizes, _convert)
