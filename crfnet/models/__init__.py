"""Segmentation networks: from a normalised image to class scores at stride 8."""

from crfnet.models.config import ModelConfig
from crfnet.models.deeplab_v2 import DeepLabV2

__all__ = ["VARIANTS", "ModelConfig", "build_network"]

VARIANTS = {"deeplab_v2": DeepLabV2}


def build_network(config: ModelConfig, num_classes: int) -> DeepLabV2:
    """The network of a configuration.

    Args:
        config: the network.
        num_classes: at least 2.

    Returns:
        A network from normalised images ``(b, 3, h, w)`` to logits ``(b, num_classes, h / 8, w / 8)``, with
        ``parameter_groups()`` and a ``backbone`` that knows its normalisation (``mean`` and ``std``).

    Raises:
        InputError: the backbone or its weights are not to be had.
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: {num_classes} is less than 2")
    return VARIANTS[config.variant](config, num_classes)
