"""How a trained network is asked: on one scale or several, mirrored too, whole or in tiles."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.resize import rescale_image
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, Logits

__all__ = ["PredictConfig", "Protocol", "tiled"]

#: Tiles begin at multiples of this, which every output stride divides.
GRID = 32


@dataclass(frozen=True)
class PredictConfig:
    """How label maps are made from images; the default is one pass over the whole image.

    The papers': v2 has its three scales in the network (model.multi_scale); v3 and v3+ take scales 0.5, 0.75,
    1, 1.25, 1.5, 1.75 and the mirrored image, fused by mean; v2 cuts Cityscapes into overlapping tiles.

    Attributes:
        scales: of the image, each > 0.
        mirror: every scale also from left to right.
        fusion: mean of the probabilities, or max of the logits, over scales and mirroring.
        tile: side of the tiles in pixels, at every scale; 0 for the whole image at once.
        overlap: of neighbouring tiles, pixels. Labels come from the tile where a pixel is farther from the
            cut, so tiles change nothing where the network sees at most overlap / 2 pixels around. ``tile -
            overlap`` must be a multiple of 32, so that the network's grid is that of the whole image.

    Raises:
        InputError: a value that is not allowed.
    """

    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    fusion: Literal["mean", "max"] = "mean"
    tile: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise InputError(f"scales: {list(self.scales)}; allowed is a list of numbers > 0")
        if self.fusion not in ("mean", "max"):
            raise InputError(f"fusion: {self.fusion!r}; allowed are mean, max")
        if self.tile < 0 or self.overlap < 0:
            raise InputError(f"tile, overlap: {self.tile}, {self.overlap}; allowed are numbers >= 0")
        step = self.tile - self.overlap
        if (self.tile or self.overlap) and (step < GRID or step % GRID):
            came = f"{self.tile}, {self.overlap}"
            raise InputError(f"tile, overlap: {came}; their difference must be a multiple of {GRID} > 0")

    @property
    def plain(self) -> bool:
        """One pass over the whole image."""
        return self.scales == (1.0,) and not self.mirror and not self.tile


class Protocol(nn.Module):
    """A segmenter asked by a protocol: image in, logits at image size out, as of the segmenter itself.

    The CRF, where there is one, runs once, on the fused logits (logarithms of the mean probabilities) and the
    image as it came.

    Args:
        model: the segmenter.
        config: the protocol.
    """

    def __init__(self, model: Segmenter, config: PredictConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, image: Image) -> Logits:
        """Logits at image size, through the CRF if there is one."""
        logits = self.unary(image)
        return logits if self.model.crf is None else self.model.crf(logits, image)

    def unary(self, image: Image) -> Logits:
        """The fused logits without the CRF."""
        if self.config.plain:
            return self._one(image)
        size = (image.shape[2], image.shape[3])
        passes = [self._pass(image.float(), scale, size) for scale in self._scales()]
        if len(passes) == 1:
            return passes[0]
        if self.config.fusion == "max":
            return torch.stack(passes).amax(0)
        return torch.stack([logits.log_softmax(1) for logits in passes]).logsumexp(0) - math.log(len(passes))

    def _scales(self) -> Iterator[tuple[float, bool]]:
        for scale in self.config.scales:
            yield scale, False
            if self.config.mirror:
                yield scale, True

    def _pass(self, image: Image, how: tuple[float, bool], size: tuple[int, int]) -> Logits:
        scale, mirrored = how
        image = rescale_image(image, scale, align_corners=self.model.align_corners)
        if mirrored:
            image = image.flip(3)
        logits = tiled(self._one, image, self.config.tile, self.config.overlap)
        if mirrored:
            logits = logits.flip(3)
        if logits.shape[2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=self.model.align_corners)
        return logits

    def _one(self, image: Image) -> Logits:
        return self.model.upsample(self.model.scores(image), (image.shape[2], image.shape[3]))


def tiled(network: Callable[[Image], Logits], image: Image, tile: int, overlap: int) -> Logits:
    """Logits of an image from overlapping tiles, each pixel from the tile where it is farther from the cut.

    Args:
        network: from a part of the image to logits of the same size.
        image: of any size; one not larger than a tile is not cut.
        tile: side of a tile, 0 for no tiles. The last tile of a row or column is what is left.
        overlap: of neighbouring tiles, less than ``tile``.
    """
    height, width = image.shape[2:]
    if tile == 0 or (height <= tile and width <= tile):
        return network(image)
    rows = []
    for top, bottom, keep_rows in _cuts(height, tile, overlap):
        row = [
            network(image[:, :, top:bottom, left:right])[:, :, keep_rows, keep_columns]
            for left, right, keep_columns in _cuts(width, tile, overlap)
        ]
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)


def _cuts(size: int, tile: int, overlap: int) -> Iterator[tuple[int, int, slice]]:
    """First and last pixel of each tile along an axis, and which of its own pixels are kept."""
    start = kept = 0
    while True:
        end = min(start + tile, size)
        until = size if end == size else end - overlap // 2
        yield start, end, slice(kept - start, until - start)
        if end == size:
            return
        kept, start = until, start + tile - overlap
