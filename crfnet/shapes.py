"""Every tensor of crfnet, named once: shape, unit, range.

Axis letters: ``b`` image, ``l`` label, ``n`` pixel (row-major), ``d`` feature dimension, ``c`` channel, ``h
w`` rows and columns. Checked by jaxtyping and beartype while testing, free at run time.
"""

from typing import TypeAlias

from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor

__all__ = [
    "Channel",
    "EdgeMap",
    "Features",
    "Grid",
    "GridImage",
    "GridLabels",
    "GridLogits",
    "GridMask",
    "Image",
    "ImageBytes",
    "Labels",
    "LabelMap",
    "Logits",
    "Marginals",
    "Picture",
    "LogitMap",
    "Mask",
    "NeighborWeights",
    "StridedLogits",
    "Spacing",
    "Values",
]

Values: TypeAlias = Float[Tensor, "b l n"]  #: anything that is filtered: one number per label and pixel
Features: TypeAlias = Float[Tensor, "b d n"]  #: positions in kernel space, in units of one bandwidth theta
Channel: TypeAlias = Float[Tensor, "b 1 n"]  #: one number per pixel, such as row sums
Spacing: TypeAlias = Float[Tensor, "*images axes"]  #: distance of neighbors per axis, for all images or each
Mask: TypeAlias = Bool[Tensor, "b n"]  #: True for the pixels that count, False for padding
Grid: TypeAlias = tuple[int, ...]  #: sizes of the axes of a pixel grid, slowest first: (h, w) or 1 or 3 axes
Logits: TypeAlias = Float[Tensor, "b l h w"]  #: unnormalized log-probabilities, in nats, at image size
Marginals: TypeAlias = Float[Tensor, "b l h w"]  #: probabilities Q, summing to 1 over l
StridedLogits: TypeAlias = Float[Tensor, "b l hs ws"]  #: a network's logits at its own output stride
LogitMap: TypeAlias = Float[Tensor, "b l _ _"]  #: `StridedLogits` beside others of another stride
Image: TypeAlias = Num[Tensor, "b c h w"]  #: RGB in 0..255, uint8 or float (the scale of theta_beta)
EdgeMap: TypeAlias = Float[Tensor, "b #2 h w"]  #: >= 0: between each pixel and the one left of it, above it
NeighborWeights: TypeAlias = Float[Tensor, "k 2 b h w"]  #: of k iterations; neighbors as in `EdgeMap`
GridLogits: TypeAlias = Float[Tensor, "b l *grid"]  #: `Logits` on a grid of 1, 2 or 3 axes
GridImage: TypeAlias = Num[Tensor, "b c *grid"]  #: `Image` on such a grid, any number of channels
GridMask: TypeAlias = Bool[Tensor, "b *grid"]  #: True for the pixels that count, False for padding
GridLabels: TypeAlias = Int[Tensor, "b *grid"]  #: class index
Labels: TypeAlias = Int[Tensor, "b h w"]  #: class index, 255 = void
ImageBytes: TypeAlias = UInt8[Tensor, "c h w"]  #: one stored image, RGB or of as many channels as it has
Picture: TypeAlias = UInt8[Tensor, "3 h w"]  #: RGB, to be looked at
LabelMap: TypeAlias = Int[Tensor, "h w"]  #: labels of one image, 255 = void
