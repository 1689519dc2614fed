"""The aligned Xception of jfzhang95/pytorch-deeplab-xception, for its weights; timm has TensorFlow's."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import AnyFeatureMap, Backbone, FeatureMap, NormalizedImage, scaled_channels
from crfnet.errors import InputError

__all__ = ["AlignedXception"]


class AlignedXception(Backbone):
    """Xception as in DeepLab v3+ (section 3.2 and Fig. 4), in the reading of jfzhang95; his names.

    He differs from the TensorFlow release (`timm:xception65`) in the exit flow, whose last strided
    convolution is not dilated, in ReLUs between the blocks of the entry flow, and in that a block that begins
    with ReLU adds the rectified input, not the input, to its result. Normalization is ImageNet's.

    Args:
        width: multiplier of the channels, for small runs.
        pretrained: there are no ImageNet weights that are published for it.
        output_stride: 8 or 16 pixels from one cell to the next.

    Raises:
        InputError: ``pretrained``.
    """

    def __init__(self, *, width: float = 1.0, pretrained: bool = False, output_stride: int = 16) -> None:
        super().__init__()
        if pretrained:
            raise InputError(
                "backbone aligned_xception: no ImageNet weights are published; use weights: none"
            )
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            scaled_channels(channels, width) for channels in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        stride, middle, (exit1, exit2) = {8: (1, 2, (2, 4)), 16: (2, 1, (1, 2))}[output_stride]
        self.conv1 = nn.Conv2d(3, c32, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c32)
        self.conv2 = nn.Conv2d(c32, c64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c64)
        self.block1 = _Block([c64, c128, c128, c128], stride=2, rectified=False)
        self.block2 = _Block([c128, c256, c256, c256], stride=2, rectified=False)
        self.block3 = _Block([c256, c728, c728, c728], stride=stride)
        for number in range(4, 20):
            self.add_module(f"block{number}", _Block([c728] * 4, rates=(middle,) * 3))
        self.block20 = _Block([c728, c728, c1024, c1024], rates=(exit1, exit1, 1))
        for number, (channels, out) in enumerate([(c1024, c1536), (c1536, c1536), (c1536, c2048)], start=3):
            self.add_module(f"conv{number}", _Separable(channels, out, rate=exit2))
            self.add_module(f"bn{number}", nn.BatchNorm2d(out))
        self.out_channels = c2048
        self.low_channels = {"conv2": c128}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the exit flow."""
        return self.levels(image)["out"]

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """The rectified output of the first block (``conv2``, stride 4) and of the exit flow (``out``)."""
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        low = F.relu(self.block1(x))
        x = low
        for number in range(2, 21):
            x = self.get_submodule(f"block{number}")(x)
        x = F.relu(x)
        for number in (3, 4, 5):
            x = F.relu(self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x)))
        return {"conv2": low, "out": x}


class _Block(nn.Module):
    """Three separable convolutions, a ReLU before each (of the first: if ``rectified``), and a shortcut.

    The last carries the stride. The entries of ``rep`` are numbered as his, ReLUs included.
    """

    def __init__(
        self,
        channels: list[int],
        *,
        stride: int = 1,
        rates: tuple[int, ...] = (1, 1, 1),
        rectified: bool = True,
    ) -> None:
        super().__init__()
        first, *_, last = channels
        self.rectified = rectified
        self.skip = self.skipbn = None
        if first != last or stride != 1:
            self.skip = nn.Conv2d(first, last, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(last)
        layers: list[nn.Module] = []
        for number, (inputs, out) in enumerate(pairwise(channels)):
            step = stride if number == 2 else 1
            layers += [
                nn.ReLU(),
                _Separable(inputs, out, stride=step, rate=rates[number]),
                nn.BatchNorm2d(out),
            ]
        self.rep = nn.Sequential(*(layers if rectified else layers[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """Residual plus shortcut."""
        residual: Tensor = self.rep(x)
        shortcut = F.relu(x) if self.rectified else x
        if self.skip is not None and self.skipbn is not None:
            shortcut = self.skipbn(self.skip(shortcut))
        return residual + shortcut


class _Separable(nn.Module):
    """Depthwise 3x3 convolution, batch normalization, 1x1 convolution."""

    def __init__(self, channels: int, out: int, *, stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels, channels, 3, stride, padding=rate, dilation=rate, groups=channels, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Not rectified."""
        return self.pointwise(self.bn(self.conv1(x)))  # type: ignore[no-any-return]
