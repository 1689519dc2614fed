"""Where the filter stops: the differences of an image, or a map that is learned from a network's features."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.network_size import evaluating
from crfnet.shapes import EdgeMap, Image

__all__ = ["EdgeNet", "image_edges"]

#: Of the image that a network is tried on: any, a multiple of strides, one of patches of 14, too.
_SIDES = (65, 64, 224)


def image_edges(image: Image) -> EdgeMap:
    """Sum the absolute differences of an image's channels to the left and the upper neighbor.

    Gastal & Oliveira 2011, eq. 11: the distance in color that a step along a line adds, here on the scale
    0..255. 0 in the first column of the first map and the first row of the second.
    """
    image = image if image.is_floating_point() else image.float()
    across = F.pad(image.diff(dim=3).abs().sum(1), (1, 0))
    down = F.pad(image.diff(dim=2).abs().sum(1), (0, 0, 1, 0))
    return torch.stack([across, down], dim=1)


class EdgeNet(nn.Module):
    """A map of edges from features of a network, learned through the loss of the segmentation alone.

    Chen et al. 2016, section 3: feature maps of early layers, each resized bilinearly to the image's size,
    concatenated, and one 1 x 1 convolution with a rectifier behind it. Times 255 here, so that learned edges
    begin on the scale of an image's differences, which sigma_r is chosen for.

    Args:
        channels: of the feature maps, by the names of the network's modules that give them (as in
            ``network.named_modules()``); such as those in front of each stride of the backbone.

    Raises:
        InputError: no feature maps.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        if not channels:
            raise InputError("EdgeNet: channels are {}, must be one module of the network or more")
        self.layers = tuple(channels)
        self.predict = nn.Conv2d(sum(channels.values()), 1, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        # Above 0, so that the rectifier passes gradients at first.
        nn.init.constant_(self.predict.bias, 0.1)  # type: ignore[arg-type]

    @classmethod
    def behind(cls, network: nn.Module, layers: Sequence[str], channels: int = 3) -> "EdgeNet":
        """For a network as it is: how many channels its layers give is found by running it once.

        Args:
            network: takes a normalized image (b, channels, h, w).
            layers: names in ``network.named_modules()``.
            channels: of an image.

        Raises:
            InputError: a name that the network lacks, or a layer that does not give one map (b, c, h, w).
        """
        like = next(network.parameters(), torch.empty(0))
        with evaluating(network), features_of(network, layers) as features:
            for side in _SIDES:
                try:
                    network(like.new_zeros(1, channels, side, side))
                    break
                except (RuntimeError, ValueError, AssertionError):
                    if side == _SIDES[-1]:
                        raise
        return cls({name: features[name].shape[1] for name in layers})

    def forward(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> Float[Tensor, "b 1 h w"]:
        """The edges of an image of that size (rows, columns), >= 0."""
        weight, bias = self.predict.weight, self.predict.bias
        assert bias is not None
        dtype = torch.promote_types(weight.dtype, torch.float32)
        maps = [
            F.interpolate(features[name].to(dtype), size, mode="bilinear", align_corners=False)
            for name in self.layers
        ]
        with torch.autocast(weight.device.type, enabled=False):
            return 255 * F.relu(F.conv2d(torch.cat(maps, dim=1), weight.to(dtype), bias.to(dtype)))


@contextmanager
def features_of(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what some modules of a network give while it runs in this thread.

    A module that runs again replaces what it gave before.

    Raises:
        InputError: a name that the network lacks, or a module that does not give one map (b, c, h, w).
    """
    modules = dict(network.named_modules())
    for name in layers:
        if name not in modules:
            near = ", ".join(each for each in modules if each.count(".") <= 1 and each)
            raise InputError(f"EdgeNet: layer is {name!r}, must be a module of the network: {near}")
    found: dict[str, Tensor] = {}
    thread = threading.get_ident()  # hooks are the module's: other threads may run it, too

    def keep(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, output: object) -> None:
            if threading.get_ident() != thread:
                return
            if not isinstance(output, Tensor) or output.ndim != 4:
                raise InputError(
                    f"EdgeNet: layer {name!r} gives {type(output).__name__}, must be one map (b, c, h, w)"
                )
            found[name] = output

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
