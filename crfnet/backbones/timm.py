"""Any network of timm that gives features at an output stride: Xception, MobileNet, ConvNeXt and others."""

from difflib import get_close_matches
from typing import Any

from crfnet.backbones.backbone import AnyFeatureMap, Backbone, FeatureMap, NormalizedImage
from crfnet.errors import InputError, needing

__all__ = ["TimmBackbone"]


class TimmBackbone(Backbone):
    """The feature maps of ``timm.create_model(name, features_only=True, output_stride=...)``.

    Low-level features are the first of stride 4 and of stride 8 that timm gives; of Xception those before the
    stride of a block, as DeepLab v3+ takes them. ``mean`` and ``std`` are those that the network's weights
    were trained with.

    Args:
        name: as timm spells it, with or without the tag of its weights, e.g. ``"xception65"``.
        pretrained: start from the weights that timm names.
        output_stride: 8, 16 or 32 pixels from one cell of the last feature map to the next.

    Raises:
        InputError: timm does not know the name, the network cannot give the output stride or features with
            channels first, or its weights are not to be had.
    """

    def __init__(self, name: str, *, pretrained: bool = False, output_stride: int = 8) -> None:
        super().__init__()
        self.network = _create(name, pretrained, output_stride)
        strides: list[int] = self.network.feature_info.reduction()
        channels: list[int] = self.network.feature_info.channels()
        if strides[-1] != output_stride:
            raise InputError(
                f"backbone timm:{name}: its last feature map has stride {strides[-1]}, not {output_stride}"
            )
        if getattr(self.network, "output_fmt", "NCHW") != "NCHW":
            raise InputError(f"backbone timm:{name}: its features are not of shape (b, c, h, w)")
        self.out_channels = channels[-1]
        self._low = {
            level: strides.index(stride)
            for level, stride in (("conv2", 4), ("conv3", 8))
            if stride in strides[:-1]
        }
        self.low_channels = {level: channels[index] for level, index in self._low.items()}
        red, green, blue = self.network.pretrained_cfg["mean"]
        self.mean = (red * 255, green * 255, blue * 255)
        red, green, blue = self.network.pretrained_cfg["std"]
        self.std = (red * 255, green * 255, blue * 255)

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The last feature map."""
        return self.network(image)[-1]  # type: ignore[no-any-return]

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """The last feature map (``out``), and as far as timm gives them those of stride 4 and 8."""
        maps = self.network(image)
        return {level: maps[index] for level, index in self._low.items()} | {"out": maps[-1]}


def _create(name: str, pretrained: bool, output_stride: int) -> Any:
    with needing(f"backbone timm:{name}"):
        import timm

    if not timm.is_model(name):
        close = ", ".join(get_close_matches(name, timm.list_models(), 3)) or "none is close"
        raise InputError(f"backbone timm:{name}: timm has no such network; similar names: {close}")
    # 32 is what every network has; those that know no other refuse to be asked.
    stride: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained, **stride)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        # Each family of timm refuses an output stride in its own way, some without a word.
        cause = str(error) or "refused by timm"
        raise InputError(
            f"backbone timm:{name}: this network cannot give output stride {output_stride} ({cause})"
        ) from error
    except (OSError, RuntimeError) as error:
        cause = str(error).partition("\n")[0]
        raise InputError(
            f"backbone timm:{name}: cannot load its pretrained weights ({cause}); put them into the "
            f"cache of the Hugging Face hub, or use weights: none"
        ) from error
