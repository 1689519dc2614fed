"""One image before and after its CRF: whole, and close up at the border that changed most."""

import io
from collections.abc import Mapping, Sequence

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crfnet.errors import require
from crfnet.labels import VOC_PALETTE, Palette, as_rgb, paint
from crfnet.report.closeup import Window, border_window, cut
from crfnet.shapes import ImageBytes, LabelMap, Picture

__all__ = ["before_after_figure", "highlight", "jpeg"]

_CELL = 3.0  #: inches
_GAP = 0.05  #: inches between cells
_HEADING = 0.28  #: inches
_DPI = 110
_FRAME = "#ffd400"


def before_after_figure(
    image: ImageBytes,
    maps: Mapping[str, LabelMap],
    *,
    palette: Palette = VOC_PALETTE,
    window: Window | None = None,
) -> Figure:
    """Draw the image and label maps of it side by side, each whole above and close up below.

    Args:
        image: RGB.
        maps: by their headings, from before to after; two or more.
        palette: the colors of the classes; class 0 is shown as the image in dark gray.
        window: what is close up; by default where the first and the last differ most along a border.

    Raises:
        InputError: less than two maps.
    """
    require("maps", list(maps), len(maps) >= 2, "two or more")
    before, *_, after = maps.values()
    window = border_window(after, before, after) if window is None else window
    cells = {"image": as_rgb(image)} | {
        heading: highlight(image, each, palette) for heading, each in maps.items()
    }
    heights = [_CELL * image.shape[1] / image.shape[2], _CELL * window.height / window.width]
    width = len(cells) * (_CELL + _GAP) - _GAP
    height = _HEADING + sum(heights) + _GAP
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    for column, (heading, cell) in enumerate(cells.items()):
        left, top = column * (_CELL + _GAP), height - _HEADING
        figure.text((left + _CELL / 2) / width, (top + _GAP) / height, heading, ha="center", fontsize=12)
        for shown, rows in zip((cell, cut(cell, window)), heights, strict=True):
            top -= rows
            box = (left / width, top / height, _CELL / width, rows / height)
            _show(figure, shown, box, None if shown is not cell else window)
            top -= _GAP
    return figure


def highlight(image: ImageBytes, labels: LabelMap, palette: Palette = VOC_PALETTE) -> Picture:
    """Tint the image in the colors of the classes; where class 0 is, it is dark and gray."""
    picture = as_rgb(image).cpu().float()
    tinted = 0.65 * picture + 0.35 * paint(labels, palette).float()
    gray = picture.mean(0, keepdim=True).expand(3, -1, -1)
    return torch.where(labels.cpu() == 0, 0.3 * gray, tinted).round().byte()


def jpeg(figure: Figure, dpi: int = _DPI) -> bytes:
    """The file of a figure that shows photographs: a fifth of what a PNG takes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="jpg", dpi=dpi, pil_kwargs={"quality": 88})
    return stream.getvalue()


def _show(figure: Figure, picture: Picture, box: Sequence[float], window: Window | None) -> None:
    axes = figure.add_axes(tuple(box))  # type: ignore[arg-type]
    axes.set_axis_off()
    axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="antialiased", aspect="auto")
    if window is not None:
        corner = (window.left - 0.5, window.top - 0.5)
        frame = Rectangle(corner, window.width, window.height, fill=False, edgecolor=_FRAME, linewidth=1.8)
        axes.add_patch(frame)
