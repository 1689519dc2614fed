"""Any network of timm that can be turned to output stride 8: Xception, MobileNet, ConvNeXt and others."""

from difflib import get_close_matches
from typing import Any

from crfnet.backbones.backbone import Backbone, FeatureMap, NormalizedImage
from crfnet.errors import InputError

__all__ = ["TimmBackbone"]


class TimmBackbone(Backbone):
    """The last feature map of ``timm.create_model(name, features_only=True, output_stride=8)``.

    ``mean`` and ``std`` are those that the network's weights were trained with.

    Args:
        name: as timm spells it, with or without the tag of its weights, e.g. ``"xception65"``.
        pretrained: start from the weights that timm names.

    Raises:
        InputError: timm does not know the name, the network cannot give output stride 8, or its weights are
            not to be had.
    """

    def __init__(self, name: str, *, pretrained: bool = False) -> None:
        super().__init__()
        self.network = _create(name, pretrained)
        stride = self.network.feature_info.reduction()[-1]
        if stride != 8:
            raise InputError(f"backbone timm:{name}: its last feature map has stride {stride}, not 8")
        self.out_channels = self.network.feature_info.channels()[-1]
        red, green, blue = self.network.pretrained_cfg["mean"]
        self.mean = (red * 255, green * 255, blue * 255)
        red, green, blue = self.network.pretrained_cfg["std"]
        self.std = (red * 255, green * 255, blue * 255)

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The last feature map."""
        return self.network(image)[-1]  # type: ignore[no-any-return]


def _create(name: str, pretrained: bool) -> Any:
    import timm

    if not timm.is_model(name):
        close = ", ".join(get_close_matches(name, timm.list_models(), 3)) or "none is close"
        raise InputError(f"backbone timm:{name}: timm has no such network; similar names: {close}")
    try:
        return timm.create_model(name, features_only=True, output_stride=8, pretrained=pretrained)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        # Each family of timm refuses an output stride in its own way, some without a word.
        cause = str(error) or "refused by timm"
        raise InputError(
            f"backbone timm:{name}: this network cannot give output stride 8 ({cause})"
        ) from error
    except (OSError, RuntimeError) as error:
        cause = str(error).partition("\n")[0]
        raise InputError(
            f"backbone timm:{name}: cannot load its pretrained weights ({cause}); put them into the "
            f"cache of the Hugging Face hub, or use weights: none"
        ) from error
