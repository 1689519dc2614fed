"""Segmentation networks: from a normalized image to class scores at the network's stride."""

from collections.abc import Callable

from crfnet.models.config import ModelConfig
from crfnet.models.deeplab_v1 import DeepLabV1
from crfnet.models.deeplab_v2 import DeepLabV2
from crfnet.models.deeplab_v3 import DeepLabV3
from crfnet.models.deeplab_v3plus import DeepLabV3Plus
from crfnet.models.network import Network

__all__ = ["VARIANTS", "ModelConfig", "Network", "build_network"]

#: A variant is a file, a line here, and in `ModelConfig` its name and what it takes of the fields.
VARIANTS: dict[str, Callable[[ModelConfig, int], Network]] = {
    "deeplab_v1": DeepLabV1,
    "deeplab_v2": DeepLabV2,
    "deeplab_v3": DeepLabV3,
    "deeplab_v3plus": DeepLabV3Plus,
}


def build_network(config: ModelConfig, num_classes: int) -> Network:
    """The network of a configuration.

    Args:
        config: the network.
        num_classes: at least 2.

    Returns:
        A network from normalized images ``(b, 3, h, w)`` to logits ``(b, num_classes, h / s, w / s)``, where
        the stride s is 8 of v1 and v2, the output stride of v3 and 4 of v3+.

    Raises:
        InputError: the backbone or its weights are not to be had.
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: {num_classes} is less than 2")
    return VARIANTS[config.variant](config, num_classes)
