"""The colors of classes over an image, as bokeh draws them: table look-ups on one thread, without a sum."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from crfnet.labels import Color, Palette, as_rgb, luminance, overlay
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["painted"]


def painted(image: ImageBytes, labels: LabelMap, colors: Palette, opacity: float) -> NDArray[np.uint32]:
    """`overlay` as one number a pixel, rows from the bottom up.

    A pixel's new red depends on its brightness and its label alone (on its red, where the image is shown as
    it is), so `overlay` is asked once for each of these: over a whole image its sums take several times as
    long, and wait for all of torch's threads.

    Args:
        image: of any channels.
        labels: of the classes that have colors, no void.
        colors: of the classes.
        opacity: of the colors, 0..1.
    """
    table = _table(tuple((red, green, blue) for red, green, blue in colors), opacity)
    begin = labels.numpy()[::-1].astype(np.int32) * 256
    pixels = np.full((*begin.shape, 4), 255, dtype=np.uint8)
    values = as_rgb(image).numpy()
    if opacity > 0:
        values = np.broadcast_to(luminance(*values.astype(np.int32)), values.shape)
    for channel, values_of in enumerate(values):
        pixels[..., channel] = table[channel][begin + values_of[::-1]]
    return pixels.view(np.uint32)[..., 0]


@lru_cache(maxsize=32)
def _table(colors: tuple[Color, ...], opacity: float) -> NDArray[np.uint8]:
    """Channel by label x value: what becomes of it."""
    values = torch.arange(256, dtype=torch.uint8).expand(3, len(colors), 256)
    classes = torch.arange(len(colors)).unsqueeze(1).expand(-1, 256)
    return np.asarray(overlay(values, classes, colors, opacity).flatten(1))
