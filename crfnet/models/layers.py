"""The convolutions of DeepLab v3 and v3+: with batch normalization and ReLU, whole or depthwise separable."""

from collections import OrderedDict

from torch import nn

__all__ = ["classifier", "convolution"]


def convolution(
    channels: int, out: int, kernel: int, rate: int = 1, *, separable: bool = False
) -> nn.Sequential:
    """Convolution without bias, batch normalization, ReLU; the map keeps its size.

    Args:
        channels: of the input.
        out: of the output.
        kernel: 1 or 3.
        rate: dilation.
        separable: a ``kernel`` larger than 1 becomes a depthwise convolution and a 1x1 one, with batch
            normalization and ReLU behind each (DeepLab v3+, section 3.1 and Fig. 3).
    """
    spatial = {"padding": rate * (kernel // 2), "dilation": rate, "bias": False}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if separable and kernel > 1:
        layers["depthwise"] = nn.Conv2d(channels, channels, kernel, groups=channels, **spatial)  # type: ignore[arg-type]
        layers["depthwise_bn"] = nn.BatchNorm2d(channels)
        layers["depthwise_relu"] = nn.ReLU(inplace=True)
        layers["conv"] = nn.Conv2d(channels, out, 1, bias=False)
    else:
        layers["conv"] = nn.Conv2d(channels, out, kernel, **spatial)  # type: ignore[arg-type]
    layers["bn"] = nn.BatchNorm2d(out)
    layers["relu"] = nn.ReLU(inplace=True)
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layers)


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution to class scores that start near 0: weights N(0, 0.01^2), bias 0."""
    layer = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
