"""The public DeepLabs for parity.py: each peer's own network and crfnet's import of its weights."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.checkpoints.layouts import import_state
from crfnet.segmenter import build_segmenter

__all__ = ["NETWORKS"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE = (104.008, 116.669, 122.675)
CLASSES = 21

Run = Callable[[Tensor], Tensor]  #: from a photo in 0..255 to logits at its size


def pair(
    build: Callable[[], nn.Module], theirs: Callable[[nn.Module], Run], **choices: Any
) -> tuple[Run, Run]:
    """Ours and theirs with the same random weights."""
    network = build().eval()
    randomize(network)
    imported = import_state(network.state_dict(), **choices)
    ours = build_segmenter(imported.config, imported.num_classes).eval()
    ours.network.load_state_dict(imported.state)
    return ours, theirs(network)


@torch.no_grad()
def randomize(network: nn.Module) -> None:
    """Weights as at the start of training, batch normalization away from the identity."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for values in (layer.weight, layer.running_var):
                values.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            for values in (layer.bias, layer.running_mean):
                values.normal_(std=0.2)  # type: ignore[union-attr]


def imagenet(network: nn.Module) -> Run:
    """RGB, ImageNet's mean and standard deviation; scores at the size of the image."""
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))

    def run(image: Tensor) -> Tensor:
        output = network((image.float() / 255 - mean) / std)
        return output["out"] if isinstance(output, dict) else output  # type: ignore[no-any-return]

    return run


def caffe(network: nn.Module) -> Run:
    """BGR minus the mean; scores resized to the image as kazuto1011's demo does."""
    mean = torch.tensor(CAFFE).view(3, 1, 1)

    def run(image: Tensor) -> Tensor:
        scores = network(image.flip(1).float() - mean)
        return F.interpolate(scores, image.shape[2:], mode="bilinear", align_corners=False)

    return run


def torchvision() -> dict[str, Callable[[], tuple[Run, Run]]]:
    models = import_module("torchvision.models.segmentation")
    names = ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large")
    options = {"weights": None, "weights_backbone": None, "num_classes": CLASSES, "aux_loss": True}
    return {name: partial(pair, partial(getattr(models, name), **options), imagenet) for name in names}


def vainf() -> dict[str, Callable[[], tuple[Run, Run]]]:
    modeling = import_module("network").modeling
    names = [
        f"{head}_{body}" for head in ("deeplabv3", "deeplabv3plus") for body in ("resnet50", "mobilenet")
    ]
    names.append("deeplabv3plus_resnet101")
    return {
        f"{name}, output stride {stride}": partial(
            pair,
            partial(getattr(modeling, name), CLASSES, stride, pretrained_backbone=False),
            imagenet,
            output_stride=stride,
        )
        for name in names
        for stride in (16, 8)
    }


def jfzhang95() -> dict[str, Callable[[], tuple[Run, Run]]]:
    deeplab = import_module("modeling.deeplab")
    bodies = {
        "resnet": import_module("modeling.backbone.resnet").ResNet101,
        "xception": import_module("modeling.backbone.xception").AlignedXception,
        "mobilenet": import_module("modeling.backbone.mobilenet").MobileNetV2,
    }
    deeplab.build_backbone = lambda name, stride, norm: bodies[name](stride, norm, pretrained=False)
    return {
        f"{name}, output stride {stride}": partial(
            pair,
            partial(deeplab.DeepLab, name, stride, CLASSES, sync_bn=False),
            imagenet,
            output_stride=stride,
        )
        for name in bodies
        for stride in (16, 8)
    }


def kazuto1011() -> dict[str, Callable[[], tuple[Run, Run]]]:
    models = import_module("libs.models")
    plain = partial(models.DeepLabV2, CLASSES, [3, 4, 23, 3], [6, 12, 18, 24])
    msc, small = models.DeepLabV2_ResNet101_MSC, models.DeepLabV2S_ResNet101_MSC
    before = partial(pair, partial(msc, CLASSES), lambda network: caffe(recomputing(network)))
    return {
        "v2, one scale": partial(pair, plain, caffe),
        "v2 MSC, PyTorch < 1.6, scaled_by: size": before,
        "v2 MSC, this PyTorch, scaled_by: factor": lambda: by_factor(pair(partial(msc, CLASSES), caffe)),
        "v2 MSC, this PyTorch, scaled_by: size": partial(pair, partial(msc, CLASSES), caffe),
        "V2S MSC, PyTorch < 1.6, scaled_by: size": partial(
            pair, partial(small, CLASSES), lambda network: caffe(recomputing(network)), rates=(3, 6, 9, 12)
        ),
    }


def by_factor(runs: tuple[Run, Run]) -> tuple[Run, Run]:
    """Ours, as today's PyTorch reads his code."""
    runs[0].network.scaled_by = "factor"  # type: ignore[attr-defined]
    return runs


def recomputing(network: nn.Module) -> nn.Module:
    """His network, resizing as PyTorch before 1.6 did."""

    class Functions:
        """torch.nn.functional with its former interpolation."""

        def __getattr__(self, name: str) -> Any:
            return getattr(F, name)

        @staticmethod
        def interpolate(x: Tensor, **options: Any) -> Tensor:
            again = {"recompute_scale_factor": True} if "scale_factor" in options else {}
            return F.interpolate(x, **options, **again)

    module = import_module("libs.models.msc")

    class Recomputing(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            module.F = Functions()  # type: ignore[attr-defined]
            try:
                return network(image)  # type: ignore[no-any-return]
            finally:
                module.F = F  # type: ignore[attr-defined]

    return Recomputing()


NETWORKS = {
    "torchvision": torchvision,
    "vainf": vainf,
    "jfzhang95": jfzhang95,
    "kazuto1011": kazuto1011,
}
