"""Points in tiles of near neighbours, so that far pairs are left out tile by tile (for the exact filter)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crfnet.shapes import Features, Mask, Values

__all__ = ["Tiles", "build_tiles"]

_LARGEST = 128  # points of a tile: fewer cut closer, more make larger matrix products
_TESTS = 1 << 20  # tests of two boxes that are held at once


@dataclass(frozen=True)
class Tiles:
    """A k-d order of the pixels of each image, cut into t tiles of p pixels, with the box of each tile.

    Where t p is larger than n, some pixels come twice; the second time they do not count.
    """

    order: Int[Tensor, "b m"]  #: the pixel at each of the m = t p places
    place: Int[Tensor, "b n"]  #: the place of each pixel where it counts
    counts: Bool[Tensor, "b m"]  #: False for a pixel that comes again
    used: Bool[Tensor, "b t"]  #: the tile holds a pixel of the mask
    low: Float[Tensor, "b t d"]  #: smallest features in the tile
    high: Float[Tensor, "b t d"]  #: largest ones

    def sort(self, values: Values) -> Float[Tensor, "b l t p"]:
        """Values in tiles."""
        labels, tiles = values.shape[1], self.used.shape[1]
        tiled: Tensor = values.gather(2, self.order.unsqueeze(1).expand(-1, labels, -1))
        return tiled.view(len(values), labels, tiles, -1)

    def sort_once(self, values: Values) -> Float[Tensor, "b t p l"]:
        """Values in tiles, the labels of a pixel side by side; 0 for a pixel that comes again."""
        tiled = self.sort(values) * self.counts.view(len(values), 1, self.used.shape[1], -1)
        return tiled.permute(0, 2, 3, 1).contiguous()

    def unsort(self, tiled: Float[Tensor, "b m l"]) -> Values:
        """Back to the pixels' own order."""
        return tiled.mT.gather(2, self.place.unsqueeze(1).expand(-1, tiled.shape[2], -1))

    def pairs(self, reach: float) -> Iterator[tuple[int, int, Tensor]]:
        """For every image and each of its tiles: the tiles (s,) whose boxes are not beyond ``reach``.

        The test is symmetric. It is made anew each time: it takes little beside the pairs that it finds,
        and their list would take gigabytes for an image of 4 megapixels.
        """
        batch, tiles, dimensions = self.low.shape
        step = max(1, _TESTS // tiles)
        for image in range(batch):
            low, high, used = self.low[image], self.high[image], self.used[image]
            for start in range(0, tiles, step):
                rows = slice(start, start + step)
                square = torch.zeros_like(low[rows, :1] * low[:, 0])
                for k in range(dimensions):
                    above, below = low[rows, k, None] - high[:, k], low[:, k] - high[rows, k, None]
                    square += torch.maximum(above, below).clamp_(min=0).square_()
                near = (square <= reach**2) & used & used[rows, None]
                found = near.nonzero()[:, 1].split(near.sum(1).tolist())
                yield from ((image, start + row, tiles_near) for row, tiles_near in enumerate(found))


@torch.no_grad()
def build_tiles(features: Features, mask: Mask | None) -> Tiles:
    """Halves the points at the median of their widest feature, again and again; all nodes of a level at once.

    Up to 256 points stay one tile.
    """
    batch, dimensions, pixels = features.shape
    levels = 0 if pixels <= 2 * _LARGEST else math.ceil(math.log2(pixels / _LARGEST))
    tiles = 1 << levels
    places = -(-pixels // tiles) * tiles
    spread = torch.arange(places, device=features.device) * pixels // places  # every pixel, some twice
    first = torch.cat([spread[:1] == 0, spread[1:] != spread[:-1]])
    node = torch.arange(places, device=features.device).expand(batch, 1, -1)  # (b, nodes, points of a node)
    points = features[:, :, spread]
    for level in range(levels):
        split = points.gather(2, node.flatten(1).unsqueeze(1).expand(-1, dimensions, -1))
        split = split.view(batch, dimensions, 1 << level, -1)
        widest = (split.amax(3) - split.amin(3)).argmax(1)[:, None, :, None]
        along = split.gather(1, widest.expand(-1, -1, -1, split.shape[3])).squeeze(1)
        node = node.gather(2, along.argsort(dim=2, stable=True)).view(batch, 2 << level, -1)
    slots = node.flatten(1)
    order, counts = spread[slots], first[slots]
    place = torch.empty_like(order).scatter_(
        1, slots, torch.arange(places, device=order.device).expand_as(order)
    )
    tiled = features.gather(2, order.unsqueeze(1).expand(-1, dimensions, -1)).unflatten(2, (tiles, -1))
    inside = counts if mask is None else counts & mask.gather(1, order)
    return Tiles(
        order=order,
        place=place[:, first],
        counts=counts,
        used=inside.view(batch, tiles, -1).any(2),
        low=tiled.amin(3).mT.contiguous(),
        high=tiled.amax(3).mT.contiguous(),
    )
