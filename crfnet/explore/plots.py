"""The pictures of the page, zoomed together: image, network and CRF, and the network again over the CRF.

The last is cut off by the page at a line that a person moves: before on its left, after on its right.
"""

from collections.abc import Mapping

import numpy as np
from bokeh.models import ColumnDataSource, Range1d
from bokeh.plotting import figure
from numpy.typing import NDArray

from crfnet.shapes import Picture

__all__ = ["PICTURES", "make_plots", "rgba"]

PICTURES = ("image", "network", "crf")  #: what is painted
#: By plot: its title and what of `PICTURES` it shows.
_PLOTS = {
    "image": ("image", "image"),
    "network": ("network alone", "network"),
    "crf": ("with CRF", "crf"),
    "before": ("network alone", "network"),
}
_WIDEST = 720  # on the screen, pixels


def make_plots(size: tuple[int, int], pictures: Mapping[str, ColumnDataSource]) -> dict[str, figure]:
    """Make the plots by name: ``image``, ``network``, ``crf`` and ``before``.

    Args:
        size: rows and columns.
        pictures: by the names of `PICTURES`, see `rgba`.
    """
    rows, columns = size
    x, y = Range1d(0, columns), Range1d(0, rows)
    plots = {}
    for name, (title, shown) in _PLOTS.items():
        plot = plots[name] = figure(
            title=title,
            x_range=x,
            y_range=y,
            aspect_ratio=columns / (rows + 25 * columns / _WIDEST),
            sizing_mode="scale_width",
            max_width=_WIDEST,
            tools="pan,wheel_zoom,box_zoom,reset",
            active_drag=None,  # a finger on a phone scrolls the page
            toolbar_location="above",
        )
        plot.axis.visible = plot.grid.visible = False
        plot.toolbar.logo = None
        plot.toolbar.autohide = True
        plot.image_rgba("image", x=0, y=0, dw=columns, dh=rows, source=pictures[shown])
    return plots


def rgba(picture: Picture) -> NDArray[np.uint32]:
    """One number a pixel, rows from the bottom up, as bokeh draws them."""
    pixels = np.full((*picture.shape[1:], 4), 255, dtype=np.uint8)
    pixels[..., :3] = picture.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels[::-1]).view(np.uint32)[..., 0]
