"""VGG-16 at output stride 8, in both layer geometries of DeepLab v1 and v2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import Backbone, FeatureMap, NormalizedImage, scaled_channels
from crfnet.backbones.weights import imagenet_state
from crfnet.config.variants import check_choices

__all__ = ["VGG16", "Pools", "VGGOptions", "decimated_fc"]

Pools = Literal["3x3", "2x2"]

#: Channels of the convolutions of a block and their dilation.
BLOCKS = (((64, 64), 1), ((128, 128), 1), ((256, 256, 256), 1), ((512, 512, 512), 1), ((512, 512, 512), 2))
#: Kernel, stride and padding of the max-pool behind each block.
POOLS = {
    "3x3": ((3, 2, 1), (3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 1)),
    "2x2": ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 1, 0), (3, 1, 1)),
}


@dataclass(frozen=True)
class VGGOptions:
    """Which of DeepLab's VGG-16.

    Attributes:
        pools: 3x3 as in all published models from MSc and LargeFOV on, 2x2 as in the first (crop 306 instead
            of 321).
    """

    pools: Pools = "3x3"

    def __post_init__(self) -> None:
        check_choices(self, "")


class VGG16(Backbone):
    """Simonyan & Zisserman 2015, configuration D, up to pool5, as DeepLab turned it to stride 8.

    The strides of pool4 and pool5 are 1, conv5 has dilation 2. Layers are numbered as in torchvision. With
    pools of 3x3 (LargeFOV, MSc, ASPP) ``h`` rows give ``ceil((h - 1) / 8) + 1`` as in Caffe, and cell ``k``
    lies on pixel ``8 k``. With those of 2x2 (the first DeepLab, prototxt ``vgg128_noup``, crop 306 -> 39
    cells) it lies between the pixels ``8 k`` and ``8 k + 1``.

    Args:
        width: multiplier of the channels, for small runs.
        pretrained: start from torchvision's ImageNet weights; needs width 1.
        pools: which of the two geometries.
    """

    def __init__(self, *, width: float = 1.0, pretrained: bool = False, pools: Pools = "3x3") -> None:
        super().__init__()
        self.pools = pools
        layers: list[nn.Module] = []
        channels = 3
        for (block, dilation), (kernel, stride, padding) in zip(BLOCKS, POOLS[pools], strict=True):
            for full_channels in block:
                out = scaled_channels(full_channels, width)
                layers += [
                    nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation),
                    nn.ReLU(inplace=True),
                ]
                channels = out
            layers.append(nn.MaxPool2d(kernel, stride, padding=padding, ceil_mode=True))
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
        return self.features(self._padded(image))  # type: ignore[no-any-return]

    def pooled(self, image: NormalizedImage) -> list[Tensor]:
        """The outputs of the five max-pools, of strides 2, 4, 8, 8 and 8; the last is that of `forward`."""
        outputs = []
        x = self._padded(image)
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                outputs.append(x)
        return outputs

    def _padded(self, image: Tensor) -> Tensor:
        """With pools of 2x2, a size of 8 k + 1 would have no cell for its last pixels."""
        rows, columns = (int(size % 8 == 1 and self.pools == "2x2") for size in image.shape[2:])
        return F.pad(image, (0, columns, 0, rows)) if rows or columns else image


def decimated_fc(state: Mapping[str, Tensor], *, kernel: int = 3, every: int = 4) -> dict[str, Tensor]:
    """fc6 and fc7 of the ImageNet classifier as convolutions, by decimation.

    fc6 keeps a regular subgrid of its 7x7 kernel: the taps 0, 3, 6 of 3, the taps 0, 2, 4, 6 of 4 (DeepLab
    v1, section 3.2; which taps it kept is not published). Of the 4096 filters of fc6 and fc7 every fourth is
    kept (v2, section 4.1.1, draws them at random). Nothing is rescaled.

    Args:
        state: torchvision's VGG-16, with ``classifier.0`` (4096, 25088) and ``classifier.3`` (4096, 4096).
        kernel: side of the new fc6: 3, 4 or 7.
        every: 4 leaves 1024 filters, 1 all 4096.

    Returns:
        ``fc6.weight`` (4096 / every, 512, kernel, kernel), ``fc6.bias``, ``fc7.weight`` (4096 / every, 4096 /
        every, 1, 1), ``fc7.bias``.
    """
    step = 6 // (kernel - 1)
    fc6 = state["classifier.0.weight"].unflatten(1, (-1, 7, 7))
    fc7 = state["classifier.3.weight"][:, :, None, None]
    return {
        "fc6.weight": fc6[::every, :, ::step, ::step].clone(),
        "fc6.bias": state["classifier.0.bias"][::every].clone(),
        "fc7.weight": fc7[::every, ::every].clone(),
        "fc7.bias": state["classifier.3.bias"][::every].clone(),
    }
