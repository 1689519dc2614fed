"""Points in tiles of near neighbors, so that far pairs are left out tile by tile (for the exact filter)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crfnet.crf.filters.contract import require_finite
from crfnet.crf.filters.true_indices import places_of
from crfnet.shapes import Features, Mask, Values

__all__ = ["ONE_TILE", "Tiles", "build_tiles"]

_LARGEST = 128  # points of a tile: fewer cut closer, more make larger matrix products
ONE_TILE = 2 * _LARGEST  #: points of an image that stay one tile
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
        for image, start, near in self._near(reach, _TESTS):
            found = near.nonzero()[:, 1].split(near.sum(1).tolist())
            yield from ((image, start + row, tiles_near) for row, tiles_near in enumerate(found))

    def pair_list(self, reach: float) -> tuple[Int[Tensor, " t1"], Int[Tensor, " s"]]:
        """The same pairs as one list, for a device that should not wait for the host in each use.

        Here it waits, once for the batch: the length of the list has to be known, and whether the features
        are finite. So the boxes are tested twice, to count and to list.

        Returns:
            starts: (b t + 1,) int64; the tiles near tile r are columns[starts[r] : starts[r + 1]];
            columns: (s,) int32; tiles are numbered through the batch.

        Raises:
            ValueError: a feature is not finite.
        """
        tiles = self.used.shape[1]
        counts = [near.sum(1) for _, _, near in self._near(reach, 16 * _TESTS)]
        finite = (self.low.isfinite() & self.high.isfinite()).all()
        *totals, finite_too = torch.stack([*(some.sum() for some in counts), finite.long()]).tolist()
        require_finite(bool(finite_too))
        columns = [
            places_of(near.flatten(), total).remainder_(tiles).int() + image * tiles
            for total, (image, _, near) in zip(totals, self._near(reach, 16 * _TESTS), strict=True)
        ]
        return F.pad(torch.cat(counts).cumsum(0), (1, 0)), torch.cat(columns)

    def _near(self, reach: float, tests: int) -> Iterator[tuple[int, int, Tensor]]:
        """Image, first tile of some, and which tiles are near each of those (some, t); ``tests`` at once."""
        batch, tiles, dimensions = self.low.shape
        step = max(1, tests // tiles)
        for image in range(batch):
            low, high, used = self.low[image], self.high[image], self.used[image]
            for start in range(0, tiles, step):
                rows = slice(start, start + step)
                square = torch.zeros_like(low[rows, :1] * low[:, 0])
                for k in range(dimensions):
                    above, below = low[rows, k, None] - high[:, k], low[:, k] - high[rows, k, None]
                    square += torch.maximum(above, below).clamp_(min=0).square_()
                yield image, start, (square <= reach**2) & used & used[rows, None]


@torch.no_grad()
def build_tiles(features: Features, mask: Mask | None, size: int | None = None) -> Tiles:
    """Halves the points at the median of their widest feature, again and again; all nodes of a level at once.

    Args:
        features: of every pixel.
        mask: the pixels that count; None for all.
        size: points of a tile, as many tiles as that takes; None for a power of 2 of equally full tiles of
            up to 128 points, where up to 256 points stay one tile.
    """
    batch, dimensions, pixels = features.shape
    if size is None:
        tiles = 1 << (0 if pixels <= ONE_TILE else math.ceil(math.log2(pixels / _LARGEST)))
        size = -(-pixels // tiles)
    else:
        tiles = -(-pixels // size)
    places = tiles * size
    at = torch.arange(places, device=features.device)
    spread = at * pixels // places  # every pixel, some twice
    slots = _sorted(features[:, :, spread], tiles)
    order = spread[slots]
    first = -(-at[:pixels] * places // pixels)  # where each pixel comes first
    place = torch.empty_like(order).scatter_(1, slots, at.expand_as(order))
    counts = (first[spread] == at)[slots]
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


def _sorted(points: Tensor, tiles: int) -> Tensor:
    """Which of the points (b, d, m) is at each place (b, m) of the k-d order; no wait for a device.

    Node i of the 2^level nodes of a level has the tiles from ``floor(i tiles / 2^level)`` on: all of them the
    same number or some one less than others.
    """
    batch, dimensions, places = points.shape
    at = torch.arange(places, device=points.device)
    order = at.expand(batch, 1, -1)
    for level in range((tiles - 1).bit_length()):
        starts, ends = _bounds(1 << level, tiles, places, points.device)
        slots = starts + torch.arange(-(-tiles >> level) * (places // tiles), device=points.device)
        even = tiles % (1 << level) == 0
        node = (
            order.view(batch, *slots.shape) if even else order.flatten(1)[:, torch.minimum(slots, ends - 1)]
        )
        split = points.gather(2, node.flatten(1).unsqueeze(1).expand(-1, dimensions, -1))
        split = split.view(batch, dimensions, *slots.shape)
        widest = (split.amax(3) - split.amin(3)).argmax(1)[:, None, :, None]
        along = split.gather(1, widest.expand(-1, -1, -1, slots.shape[1])).squeeze(1)
        if not even:
            along.masked_fill_(slots >= ends, math.inf)
        order = node.gather(2, along.argsort(dim=2, stable=True))
        if not even:
            mine = torch.searchsorted(ends.flatten(), at, right=True)  # the node of each place
            order = order.flatten(1)[:, mine * slots.shape[1] + at - starts.flatten()[mine]].unsqueeze(1)
    return order.flatten(1)


def _bounds(nodes: int, tiles: int, places: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First place of each node and the one after its last: (nodes, 1) each."""
    bounds = torch.arange(nodes + 1, device=device).unsqueeze(1) * tiles // nodes * (places // tiles)
    return bounds[:-1], bounds[1:]
