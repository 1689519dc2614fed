"""Networks for images of other channels than RGB: their first convolutions, adapted as timm does."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crfnet.errors import InputError

__all__ = ["adapt_first_convolution", "channel_statistics"]


def adapt_first_convolution(network: nn.Module, channels: int) -> None:
    """Make a network for RGB, in place, one for images of that many channels.

    Every convolution that takes the image's three channels: of one channel, its weights are the sum over red,
    green and blue, so that a gray image gives what it gave as RGB; of more, they are red, green, blue, red,
    ..., times 3 / channels (timm, ``adapt_input_conv``).

    Raises:
        InputError: the network has no such convolution.
    """
    if channels == 3:
        return
    first = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.in_channels == 3]
    if not first:
        raise InputError(
            f"data.channels is {channels}, must be 3: the network has no convolution on the image"
        )
    for layer in first:
        trained = layer.weight.requires_grad
        layer.weight = nn.Parameter(_adapted(layer.weight.detach(), channels), requires_grad=trained)
        layer.in_channels = channels


def channel_statistics(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Mean or standard deviation of red, green and blue for that many channels: their mean for one."""
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[number % len(values)] for number in range(channels))


def _adapted(weight: Tensor, channels: int) -> Tensor:
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels]
    return torch.mul(repeated, 3 / channels)
