"""ImageNet weights of torchvision, by the name of the network."""

import pickle
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch
from torch import Tensor

from crfnet.errors import InputError, needing

__all__ = ["IMAGENET_WEIGHTS", "imagenet_state"]

#: Torchvision's names of them.
IMAGENET_WEIGHTS = {
    "vgg16": "VGG16_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    "resnet101": "ResNet101_Weights.IMAGENET1K_V1",
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "mobilenet_v3_large": "MobileNet_V3_Large_Weights.IMAGENET1K_V1",
}


def imagenet_state(name: str) -> dict[str, Tensor]:
    """The state dict of torchvision's ImageNet classifier, from the cache of torch hub or the internet.

    Args:
        name: a key of `IMAGENET_WEIGHTS`.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
        InputError: the file is neither cached nor to be had, or it is not what torchvision published.
    """
    with needing(f"weights: imagenet, of {name},"):
        from torchvision import models

    weights = models.get_weight(IMAGENET_WEIGHTS[name])
    file = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlparse(weights.url).path).name
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        cause = str(error).partition("\n")[0]
        raise InputError(
            f"ImageNet weights of {name}: cannot read {file} or fetch it from {weights.url} ({cause}); "
            f"put that file there, or use weights: none"
        ) from error
    return state
