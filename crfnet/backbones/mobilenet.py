"""MobileNets as public DeepLabs have them: torchvision's V3, and V2 of VainF and of jfzhang95."""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import AnyFeatureMap, Backbone, FeatureMap, NormalizedImage
from crfnet.backbones.weights import imagenet_state
from crfnet.errors import needing

__all__ = ["MobileNetV2", "MobileNetV3Large"]

#: Units per stage of MobileNetV2 and the stage's stride, behind a stem of stride 2.
V2_STAGES = ((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))


class MobileNetV3Large(Backbone):
    """Howard et al. 2019, torchvision's ``mobilenet_v3_large(dilated=True)`` up to its last 1x1 convolution.

    Unlike timm's at output stride 16, the first unit of the dilated stage is dilated, too.

    Args:
        width: multiplier of the channels, for small runs.
        pretrained: start from torchvision's ImageNet weights; needs width 1.
    """

    def __init__(self, *, width: float = 1.0, pretrained: bool = False) -> None:
        super().__init__()
        with needing("backbone mobilenet_v3_large"):
            from torchvision.models import mobilenet_v3_large
        self.features = mobilenet_v3_large(weights=None, width_mult=width, dilated=True).features
        self.out_channels = self.features[-1].out_channels
        if pretrained:
            state = imagenet_state("mobilenet_v3_large")
            self.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the last 1x1 convolution."""
        return self.features(image)  # type: ignore[no-any-return]


class MobileNetV2(Backbone):
    """Sandler et al. 2018 up to its 320 channels, padded and dilated as in public DeepLabs.

    Names are torchvision's. Both pad the input of a unit's first 1x1 convolution, not that of the depthwise
    one. VainF's stem is not padded, so that cell ``k`` lies on pixel ``s k + 1`` (321 give 40 at 8), and the
    first unit of a dilated stage keeps the dilation from before it; jfzhang95's stem is padded, and a whole
    stage keeps the dilation from before it.

    Args:
        width: multiplier of the channels, for small runs.
        pretrained: start from torchvision's ImageNet weights; needs width 1.
        output_stride: 8, 16 or 32 pixels from one cell to the next.
        by: whose.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        pretrained: bool = False,
        output_stride: int = 16,
        by: Literal["vainf", "jfzhang95"] = "vainf",
    ) -> None:
        super().__init__()
        with needing(f"backbone mobilenet_v2_{by}"):
            from torchvision.models import mobilenet_v2
        self.features = mobilenet_v2(weights=None, width_mult=width).features[:-1]
        if by == "vainf":
            self.features[0][0].padding = (0, 0)
        units = iter(self.features[1:])
        reached, rate = 2, 1
        for depth, stride in V2_STAGES:
            before = rate
            if reached == output_stride:
                rate *= stride
            rest = rate if by == "vainf" else before
            for number in range(depth):
                depthwise = _depthwise(next(units))
                if reached == output_stride:
                    depthwise.stride = (1, 1)
                dilation = before if number == 0 else rest
                depthwise.padding, depthwise.dilation = (0, 0), (dilation, dilation)
            if reached != output_stride:
                reached *= stride
        self.out_channels = self.features[-1].out_channels
        self.low_channels = {"conv2": self.features[3].out_channels}
        if pretrained:
            state = imagenet_state("mobilenet_v2")
            self.load_state_dict({name: state[name] for name in self.state_dict()})

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the last unit."""
        return self.levels(image)["out"]

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """The output of the second stage (``conv2``, stride 4) and of the last (``out``)."""
        stem, *units = self.features
        outputs: list[Tensor] = []
        x: Tensor = stem(image)
        for unit in units:
            residual = unit.conv(F.pad(x, (_depthwise(unit).dilation[0],) * 4))
            x = x + residual if unit.use_res_connect else residual
            outputs.append(x)
        return {"conv2": outputs[2], "out": x}


def _depthwise(unit: Any) -> nn.Conv2d:
    """The 3x3 convolution of torchvision's `InvertedResidual`, whose first unit has no 1x1 before it."""
    return unit.conv[-3][0]  # type: ignore[no-any-return]
