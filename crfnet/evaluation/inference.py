"""Inference of a trained network: on one or several scales, with the mirrored image, whole or in tiles."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.errors import require
from crfnet.resize import AlignCorners, rescale_image, resize_logits
from crfnet.segmenter import Segmenter
from crfnet.shapes import EdgeMap, Image, LabelMap, Logits, StridedLogits

__all__ = ["PredictConfig", "TiledInference", "predict_labels", "tiled"]

#: Tiles begin at multiples of this, which every output stride divides.
GRID = 32
_ROWS = 64  # of a map that are worked on at once where no second map is to be made


@dataclass(frozen=True)
class PredictConfig:
    """How label maps are made from images; by default with one pass over the whole image.

    The papers': v2 has its three scales in the network (model.deeplab_v2.multi_scale); v3 and v3+ take scales
    0.5, 0.75, 1, 1.25, 1.5, 1.75 and the mirrored image, fused by mean; v2 cuts Cityscapes into overlapping
    tiles.

    Attributes:
        scales: of the image, each > 0.
        mirror: every scale also from left to right.
        fusion: mean of the probabilities, or max of the logits, over scales and mirroring.
        tile: side of the tiles in pixels, at every scale; 0 for the whole image at once.
        overlap: of neighboring tiles, pixels. Labels come from the tile where a pixel is farther from the
            cut, so tiles change nothing where the network sees at most overlap / 2 pixels around. ``tile -
            overlap`` must be a multiple of 32, so that the network's grid is that of the whole image.
        blend: pass linearly from one tile to the next over the middle half of their overlap, which hides the
            seams of networks that see farther; they then change nothing up to overlap / 4.
        size: rows and columns that every image is resized to, whatever its shape, for networks published for
            one input size (TF-Lite's 513 x 513); logits are resized back to the image. Without tiles. None
            gives images as they are.

    Raises:
        InputError: a value that is not allowed.
    """

    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    fusion: Literal["mean", "max"] = "mean"
    tile: int = 0
    overlap: int = 0
    blend: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        positive = self.scales and all(0 < scale < math.inf for scale in self.scales)
        require("scales", list(self.scales), bool(positive), "a list of numbers above 0")
        require("fusion", self.fusion, self.fusion in ("mean", "max"), "mean or max")
        require("tile", self.tile, self.tile >= 0, "at least 0")
        require("overlap", self.overlap, self.overlap >= 0, "at least 0")
        step = self.tile - self.overlap
        on_grid = step >= GRID and step % GRID == 0
        untiled = self.tile == self.overlap == 0
        require("tile - overlap", step, untiled or on_grid, f"a multiple of {GRID} above 0")
        require("overlap", self.overlap, not self.blend or self.overlap >= 4, "at least 4 with blend")
        if self.size is not None:
            require("size", list(self.size), min(self.size) >= 1, "rows and columns, at least 1")
            require("tile", self.tile, self.tile == 0, "0 with size")

    @property
    def single_pass(self) -> bool:
        """One pass over the whole image."""
        return self.scales == (1.0,) and not self.mirror and not self.tile


def predict_labels(model: Callable[[Tensor], Logits], image: Num[Tensor, "c h w"]) -> LabelMap:
    """The class with the highest logit at each pixel, without gradients.

    Args:
        model: maps images (1, c, h, w) to logits (1, l, h, w) at image size; in evaluation mode already.
        image: on the model's device.

    Raises:
        ValueError: the logits are not one map of the image's size.
    """
    with torch.inference_mode():
        logits = model(image.unsqueeze(0))
        labels = logits.argmax(1)
    if labels.shape != (1, *image.shape[1:]):
        raise ValueError(
            f"model gave logits {tuple(logits.shape)} for an image {tuple(image.shape)}, "
            f"must be (1, classes, {image.shape[1]}, {image.shape[2]})"
        )
    return labels[0].clone()


class TiledInference(nn.Module):
    """A segmenter with multi-scale, mirrored or tiled inference: image in, logits at image size out.

    The CRF, where there is one, runs once, on the fused logits (logarithms of the mean probabilities) and the
    image as it came; learned edges are those of the image at scale 1.

    Args:
        model: the segmenter.
        config: scales, mirroring and tiles.
    """

    def __init__(self, model: Segmenter, config: PredictConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    @torch.no_grad()
    def forward(self, image: Image) -> Logits:
        """Logits at image size, through the CRF if there is one; without gradients."""
        with self.model.edge_features() as features:
            logits = self.unary(image)
        if self.model.edge_net is None:
            return self.model.refine(logits, image)
        size = (image.shape[2], image.shape[3])
        if self.config.single_pass:
            edges = self._edges(features, self.config.size or size)
        else:  # by a pass of their own: at scale 1, not mirrored
            given, config = self._given(image).float(), self.config
            edges = tiled(self._edges_of, given, config.tile, config.overlap, blend=config.blend)
        if edges.shape[2:] != size:
            edges = F.interpolate(edges, size, mode="bilinear", align_corners=False)
        return self.model.refine(logits, image, edges)

    def _edges_of(self, image: Image) -> EdgeMap:
        with self.model.edge_features() as features:
            self.model.strided_logits(image)
        return self._edges(features, (image.shape[2], image.shape[3]))

    def _edges(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> EdgeMap:
        edges = self.model.learned_edges(features, size)
        assert edges is not None
        return edges

    @torch.no_grad()
    def unary(self, image: Image) -> Logits:
        """The fused logits without the CRF.

        Holds one map of logits at image size, and a second one while a further pass is made, at the larger of
        its own size and the image's: passes are fused as they come, tiles written to their places.
        """
        size = (image.shape[2], image.shape[3])
        if self.geometry is not None:
            logits = resize_logits(self.strided(image), size, align_corners=self.geometry)
            return logits.contiguous()  # of a crop, or the map that it is cut from would be kept
        given = self._given(image).float()
        mirrored = (False, True) if self.config.mirror else (False,)
        passes = list(itertools.product(self.config.scales, mirrored))
        fused = self._pass(given, *passes[0], size)
        if len(passes) == 1:
            return fused
        if self.config.fusion == "max":
            for one in passes[1:]:
                torch.maximum(fused, self._pass(given, *one, size), out=fused)
            return fused
        _by_rows(fused, lambda part: part.log_softmax(1))
        for one in passes[1:]:
            logits = self._pass(given, *one, size)
            _by_rows(fused, lambda part, more: torch.logaddexp(part, more.log_softmax(1)), logits)
            del logits  # before the next is made
        return fused.sub_(math.log(len(passes)))

    @property
    def geometry(self) -> AlignCorners | None:
        """Where the cells of `strided` lie on the image, see `resize_logits`; None where nothing says it."""
        aligned, size = self.model.align_corners, self.config.size
        if not self.config.single_pass:
            return None
        if size is None or not aligned:
            return aligned
        # The corners of the map are those of the resized image, at any stride up to 32, and so of the image.
        return "stretch" if aligned == "stretch" or all(pixels % GRID == 1 for pixels in size) else None

    def strided(self, image: Image) -> StridedLogits:
        """Compute the network's logits at its stride, of the image in the size that the network is given."""
        return self.model.strided_logits(self._given(image))

    def _given(self, image: Num[Tensor, "b c h w"]) -> Num[Tensor, "b c rows columns"]:
        if self.config.size is None:
            return image
        # Half-pixel centers and antialiased where it shrinks, as image libraries resize.
        return F.interpolate(image.float(), self.config.size, mode="bilinear", antialias=True)

    def _pass(
        self, image: Num[Tensor, "b c rows columns"], scale: float, mirrored: bool, size: tuple[int, int]
    ) -> Logits:
        image = rescale_image(image, scale, align_corners=self.model.align_corners)
        if mirrored:
            image = image.flip(3)
        logits = tiled(self._one, image, self.config.tile, self.config.overlap, blend=self.config.blend)
        if mirrored:
            logits = _by_rows(logits.contiguous(), lambda part: part.flip(3))
        if logits.shape[2:] != size:
            aligned = bool(self.model.align_corners)
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=aligned)
        return logits.contiguous()

    def _one(self, image: Image) -> Logits:
        return self.model.upsample(self.model.strided_logits(image), (image.shape[2], image.shape[3]))


def _by_rows(maps: Logits, change: Callable[..., Tensor], *others: Logits) -> Logits:
    """``maps <- change(maps, *others)`` in place, a few rows at a time, so that no whole map is made."""
    for part, *more in zip(*(each.split(_ROWS, 2) for each in (maps, *others)), strict=True):
        part.copy_(change(part, *more))
    return maps


def tiled(
    network: Callable[[Image], Logits], image: Image, tile: int, overlap: int, *, blend: bool = False
) -> Logits:
    """Logits of an image from overlapping tiles, each pixel from the tile where it is farther from the cut.

    Holds one map of the image's size and one tile, however many there are; without gradients.

    Args:
        network: from a part of the image to logits of the same size.
        image: of any size; one not larger than a tile is not cut.
        tile: side of a tile, 0 for no tiles. The last tile of a row or column is what is left.
        overlap: of neighboring tiles, less than ``tile``.
        blend: over the middle half of the overlap, pass linearly from one tile to the next.
    """
    height, width = image.shape[2:]
    if tile == 0 or (height <= tile and width <= tile):
        return network(image)
    whole: Tensor | None = None
    for rows in _tiles(height, tile, overlap, blend):
        for columns in _tiles(width, tile, overlap, blend):
            logits = network(image[:, :, rows.start : rows.end, columns.start : columns.end])
            if whole is None:
                whole = logits.new_zeros(*logits.shape[:2], height, width)
            part = logits[:, :, rows.inside, columns.inside]
            if blend:
                part = part * (rows.share.unsqueeze(1) * columns.share).to(part)
            whole[:, :, rows.kept, columns.kept] += part
    assert whole is not None
    return whole


class _Tile(NamedTuple):
    """A tile along one axis."""

    start: int  #: its first pixel
    end: int  #: behind its last
    kept: slice  #: pixels that it gives something to
    share: Float[Tensor, " kept"]  #: how much of them; 1 over all tiles

    @property
    def inside(self) -> slice:
        """The kept pixels as its own."""
        return slice(self.kept.start - self.start, self.kept.stop - self.start)


def _tiles(size: int, tile: int, overlap: int, blend: bool) -> Iterator[_Tile]:
    """The tiles along an axis of ``size`` pixels, cut in the middle of their overlaps."""
    reach = overlap // 4 if blend else 0  # to both sides of a cut
    start = first = 0  # of the tile, and of the pixels that it keeps
    while True:
        end = min(start + tile, size)
        last = size if end == size else end - overlap // 2
        kept = slice(0 if first == 0 else first - reach, size if last == size else last + reach)
        place = torch.arange(kept.start, kept.stop) + 0.5
        share = _rise(place, first, reach) if first else torch.ones(len(place))
        yield _Tile(start, end, kept, share if last == size else share - _rise(place, last, reach))
        if end == size:
            return
        first, start = last, start + tile - overlap


def _rise(place: Tensor, cut: int, reach: int) -> Tensor:
    """0 up to ``reach`` before the cut, 1 from ``reach`` behind it on, linear in between."""
    return (place > cut).float() if reach == 0 else ((place - cut) / (2 * reach) + 0.5).clamp(0, 1)
