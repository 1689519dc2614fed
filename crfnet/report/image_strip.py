"""Pictures: the strip of images, truth and arms, and which images are worth showing."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from PIL import Image as PillowImage
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.confusion import metrics
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.labels import VOC_PALETTE, VOID, Palette, paint
from crfnet.report.closeup import Window, border_window, cut
from crfnet.report.figure_text import figure_text
from crfnet.shapes import ImageBytes, LabelMap

__all__ = [
    "StripSample",
    "error_picture",
    "image_metrics",
    "largest_changes",
    "seen_classes",
    "strip_figure",
]

#: (id, image, truth, prediction of each arm); every sample has a size of its own
StripSample: TypeAlias = tuple[
    str, UInt8[Tensor, "3 _ _"], Int[Tensor, "_ _"], Mapping[str, Int[Tensor, "_ _"]]
]

CELL_WIDTH = 2.2  #: inches
CELL_HEIGHT = 3.3  #: inches at most; a picture that is taller is as much narrower
LEAST_SIDE = 0.05  #: inches; of a picture that is longer than wide by more than this leaves, stretched to it
GAP = 0.06  #: inches between cells
SPACE = 0.14  #: inches between samples, besides
MARGIN = 0.32  #: inches to the left and above, for ids and headings
LETTERS = 0.85  #: points of the headings for each inch of the strip, so that a page shows them large enough
LEAST_LETTERS = 11  #: points
MAX_LEGEND = 24  #: classes
DPI = 150
MAX_HEIGHT = 30_000  #: pixels; of many samples each is smaller (Matplotlib takes 65,535)

_DEFAULT = EvaluationConfig()


def image_metrics(evaluation: Evaluation, config: EvaluationConfig) -> Float[Tensor, " i"]:
    """The ``config.gallery`` of each image by itself, a fraction in 0..1; NaN where nothing defines it."""
    found: Tensor = getattr(metrics(evaluation.confusion, config.absent), config.gallery)
    return found.double()


def largest_changes(
    a: Evaluation, b: Evaluation, count: int, config: EvaluationConfig = _DEFAULT
) -> tuple[str, ...]:
    """The images whose own score arm ``b`` changes most against ``a``: half gains, half losses, best first.

    The score is ``config.gallery``. An odd ``count`` shows one gain more; where one kind is too few, the
    other fills up.
    """
    if a.ids != b.ids:
        raise InputError("the two arms scored different images: changes need the same ones in the same order")
    change = image_metrics(b, config) - image_metrics(a, config)
    defined = change.isfinite().nonzero().flatten()
    order = defined[change[defined].argsort(descending=True, stable=True)].tolist()
    if len(order) > count:
        losses = count // 2
        order = order[: count - losses] + order[len(order) - losses :]
    return tuple(a.ids[i] for i in order)


def error_picture(image: ImageBytes, labels: LabelMap, prediction: LabelMap) -> ImageBytes:
    """The image in faint gray with wrong pixels in vermilion and void ones in white."""
    gray = image.float().mean(0, keepdim=True).mul(0.4).add(140).expand(3, -1, -1)
    wrong = torch.tensor([213.0, 94.0, 0.0])[:, None, None]
    picture = torch.where(prediction != labels, wrong, gray)
    return picture.masked_fill(labels == VOID, 255).round().byte()


def strip_figure(
    samples: Sequence[StripSample],
    names: Sequence[str],
    palette: Palette,
    class_names: Sequence[str],
    *,
    errors: bool = False,
) -> Figure:
    """Two rows per sample: image, truth, each arm, whole and close up; under it the colors of the classes.

    What is close up is framed in the whole (see `border_window`).

    Args:
        samples: at least one.
        names: the arms, each in every sample's predictions.
        palette: color of each class.
        class_names: of each class, for the legend.
        errors: show where each arm is wrong (see `error_picture`) instead of its classes.

    Raises:
        InputError: there is no sample, or one lacks an arm or has maps of different sizes.
    """
    _check_samples(samples, names)
    windows = [border_window(labels, *_pair(predictions, names)) for _, _, labels, predictions in samples]
    sizes = [
        (_cell_size(image.shape[1], image.shape[2]), _cell_size(window.height, window.width))
        for (_, image, _, _), window in zip(samples, windows, strict=True)
    ]
    seen = seen_classes(samples, palette, class_names)
    classes = [Patch(facecolor=_unit(color), edgecolor="0.6") for _, color in seen]
    shown_names = [figure_text(label) for label, _ in seen]
    legend_columns = 2 + len(names)
    legend = 0.3 * -(-len(classes) // legend_columns)
    width = MARGIN + (2 + len(names)) * (CELL_WIDTH + GAP)
    letters = max(LEAST_LETTERS, LETTERS * width)
    height = (
        MARGIN
        + sum(whole[0] + close[0] for whole, close in sizes)
        + len(samples) * (2 * GAP + SPACE)
        + legend
    )
    figure = Figure(figsize=(width, height), dpi=min(DPI, MAX_HEIGHT / height))
    FigureCanvasAgg(figure)
    panel = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))  # in inches
    panel.set_axis_off()
    lefts = [MARGIN + column * (CELL_WIDTH + GAP) for column in range(2 + len(names))]
    top = height - MARGIN
    for left, heading in zip(lefts, ("image", "truth", *names), strict=True):
        at = (left + CELL_WIDTH / 2, top + GAP)
        panel.text(*at, figure_text(heading), ha="center", va="bottom", fontsize=letters)
    for (id, image, labels, predictions), window, (whole, close) in zip(samples, windows, sizes, strict=True):
        arms = [predictions[name] for name in names]
        shown = [error_picture(image, labels, arm) if errors else paint(arm, palette) for arm in arms]
        cells = (image, paint(labels, palette), *shown)
        for left, cell in zip(lefts, cells, strict=True):
            extent = _extent(left, top, whole)
            _show(panel, cell, extent)
            _frame(panel, extent, window, labels.shape)
        at, name = (MARGIN - GAP, top - whole[0] / 2), figure_text(id)
        panel.text(*at, name, rotation=90, ha="right", va="center", fontsize=0.8 * letters)
        top -= whole[0] + GAP
        for left, cell in zip(lefts, cells, strict=True):
            _show(panel, cut(cell, window), _extent(left, top, close))
        top -= close[0] + GAP + SPACE
    panel.legend(
        classes, shown_names, loc="lower center", ncols=legend_columns, frameon=False, fontsize=0.8 * letters
    )
    return figure


def _cell_size(height: int, width: int) -> tuple[float, float]:
    """Height and width in inches of a picture that fits a cell."""
    scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    return max(LEAST_SIDE, scale * height), max(LEAST_SIDE, scale * width)


def _extent(left: float, top: float, size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Where a picture of such a size is in the cell there: (left, right, bottom, top)."""
    middle = left + CELL_WIDTH / 2
    return middle - size[1] / 2, middle + size[1] / 2, top - size[0], top


def _pair(predictions: Mapping[str, LabelMap], names: Sequence[str]) -> tuple[LabelMap, LabelMap]:
    """The arms between which a close look is taken: the first one and the one that differs most from it."""
    first = predictions[names[0]]
    return first, max((predictions[name] for name in names), key=lambda each: int((each != first).sum()))


def _frame(
    panel: Axes, extent: tuple[float, float, float, float], window: Window, size: Sequence[int]
) -> None:
    """Draw the edge of the window into the picture at (left, right, bottom, top)."""
    left, right, bottom, top = extent
    down, across = (top - bottom) / size[0], (right - left) / size[1]
    corner = (left + across * window.left, top - down * (window.top + window.height))
    sides = (across * window.width, down * window.height)
    for color, line in (("black", 2.0), ("white", 1.0)):
        panel.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=color, linewidth=line))


def _check_samples(samples: Sequence[StripSample], names: Sequence[str]) -> None:
    if not samples:
        raise InputError("strip samples: none, must be at least one")
    for id, image, labels, predictions in samples:
        missing = [name for name in names if name not in predictions]
        if missing:
            raise InputError(f"strip sample {id}: it lacks the prediction of {', '.join(missing)}")
        sizes = {tuple(image.shape[1:]), *(tuple(each.shape) for each in (labels, *predictions.values()))}
        if len(sizes) > 1:
            raise InputError(
                f"strip sample {id}: image, labels and predictions are {sizes}, must be of one size"
            )


def _show(panel: Axes, picture: ImageBytes, extent: tuple[float, float, float, float]) -> None:
    """Draw a picture into (left, right, bottom, top), leaving the panel's limits as they are."""
    small = picture.shape[2] < CELL_WIDTH * DPI  # its pixels are to be seen
    drawn = AxesImage(panel, extent=extent, interpolation="nearest" if small else "antialiased")
    # All pictures of a strip are held until it is drawn: large ones in the size that will be seen, or twice.
    step = int(picture.shape[1] / (2 * CELL_HEIGHT * DPI)), int(picture.shape[2] / (2 * CELL_WIDTH * DPI))
    pixels = PillowImage.fromarray(picture.permute(1, 2, 0).cpu().contiguous().numpy())
    drawn.set_data(np.asarray(pixels.reduce((max(1, step[1]), max(1, step[0])))))
    panel.add_image(drawn)


def seen_classes(
    samples: Sequence[StripSample], palette: Palette, class_names: Sequence[str]
) -> list[tuple[str, Sequence[int]]]:
    """Name and color of the classes that are seen, the most frequent ones in their order; then void."""
    maps = [
        each.flatten() for _, _, labels, predictions in samples for each in (labels, *predictions.values())
    ]
    counts = torch.cat(maps).bincount(minlength=VOID + 1)
    present = [c for c in counts.argsort(descending=True).tolist() if counts[c] > 0 and c != VOID]
    shown = [(class_names[c], palette[c]) for c in sorted(present[:MAX_LEGEND])]
    if counts[VOID]:
        shown.append(("void", VOC_PALETTE[VOID]))
    return shown


def _unit(color: Sequence[int]) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255
