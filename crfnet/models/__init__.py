"""Segmentation networks: from a normalized image to class scores at the network's stride."""

from crfnet.backbones import ResNetOptions, VGGOptions
from crfnet.models.config import VARIANTS, ModelConfig
from crfnet.models.deeplab_v1 import DeepLabV1Config
from crfnet.models.deeplab_v2 import DeepLabV2Config
from crfnet.models.deeplab_v3 import DeepLabV3Config
from crfnet.models.deeplab_v3plus import DeepLabV3PlusConfig
from crfnet.models.network import Network, VariantConfig

__all__ = [
    "VARIANTS",
    "DeepLabV1Config",
    "DeepLabV2Config",
    "DeepLabV3Config",
    "DeepLabV3PlusConfig",
    "ModelConfig",
    "Network",
    "ResNetOptions",
    "VGGOptions",
    "VariantConfig",
    "build_network",
]


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
    return config.build_variant().build(config, num_classes)
