"""VGG-16 at output stride 8, in the geometry of DeepLab-LargeFOV."""

from collections.abc import Mapping

from torch import Tensor, nn

from crfnet.backbones.backbone import Backbone, FeatureMap, NormalizedImage, scaled_channels
from crfnet.backbones.weights import imagenet_state

__all__ = ["VGG16", "decimated_fc"]

#: Channels of the convolutions of a block, their dilation, the stride of the max-pool that follows.
BLOCKS = (
    ((64, 64), 1, 2),
    ((128, 128), 1, 2),
    ((256, 256, 256), 1, 2),
    ((512, 512, 512), 1, 1),
    ((512, 512, 512), 2, 1),
)


class VGG16(Backbone):
    """Simonyan & Zisserman 2015, configuration D, up to pool5, as in DeepLab's LargeFOV and ASPP prototxts.

    All max-pools are 3x3 with padding 1; pool4 and pool5 have stride 1, conv5 has dilation 2. Sizes round up
    as in Caffe: ``h`` rows give ``ceil((h - 1) / 8) + 1``. Layers are numbered as in torchvision.

    Args:
        width: multiplier of the channels, for small runs.
        pretrained: start from torchvision's ImageNet weights; needs width 1.
    """

    def __init__(self, *, width: float = 1.0, pretrained: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block, dilation, stride in BLOCKS:
            for full_channels in block:
                out = scaled_channels(full_channels, width)
                layers += [
                    nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation),
                    nn.ReLU(inplace=True),
                ]
                channels = out
            layers.append(nn.MaxPool2d(3, stride, padding=1, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.out_channels = channels
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if pretrained:
            state = imagenet_state("vgg16")
            self.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """Max-pooled conv5_3."""
        return self.features(image)  # type: ignore[no-any-return]


def decimated_fc(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fc6 and fc7 of the ImageNet classifier as small convolutions, by decimation.

    fc6 keeps the taps 0, 3, 6 of its 7x7 kernel; of the 4096 filters of fc6 and fc7 every fourth is kept
    (DeepLab v2, section 4.1.1, draws them at random). Nothing is rescaled.

    Args:
        state: torchvision's VGG-16, with ``classifier.0`` (4096, 25088) and ``classifier.3`` (4096, 4096).

    Returns:
        ``fc6.weight`` (1024, 512, 3, 3), ``fc6.bias``, ``fc7.weight`` (1024, 1024, 1, 1), ``fc7.bias``.
    """
    fc6 = state["classifier.0.weight"].unflatten(1, (-1, 7, 7))
    fc7 = state["classifier.3.weight"][:, :, None, None]
    return {
        "fc6.weight": fc6[::4, :, ::3, ::3].clone(),
        "fc6.bias": state["classifier.0.bias"][::4].clone(),
        "fc7.weight": fc7[::4, ::4].clone(),
        "fc7.bias": state["classifier.3.bias"][::4].clone(),
    }
