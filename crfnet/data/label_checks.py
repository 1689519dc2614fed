"""Counts of labels that no masks of class numbers have: what must be said of the masks before any work."""

import logging
from collections.abc import Sequence

from crfnet.data.dataset import Split
from crfnet.data.label_map import Labeling

__all__ = ["MOST_VOID", "label_problem"]

#: Share of the pixels that may be 255 before it must be said to be void: VOC has 5 %, Cityscapes 11 %.
MOST_VOID = 0.3

log = logging.getLogger(__name__)


def label_problem(
    pixels: Sequence[int], classes: Sequence[str], labeling: Labeling, split: Split | None
) -> str | None:
    """One line about masks whose numbers mean something else, with what to write; None where nothing is odd.

    Of the public data sets as they are downloaded the meaning is known: there a class without a pixel is a
    warning in the log.

    Args:
        pixels: of each class and, last, of void, over all images.
        classes: their names.
        labeling: where the classes are from.
        split: ``train`` where every class must be in an image.
    """
    *of_class, void = pixels
    absent = [name for name, count in zip(classes, of_class, strict=True) if not count]
    if not labeling.by_user:
        if absent and split == "train":
            log.warning("no image of train holds %s, which cannot be learned", ", ".join(absent))
        return None
    if void > 0 and not labeling.void_is_meant:
        return _unsaid_void(void / sum(pixels), classes, absent) or _absent(classes, absent, split)
    return _absent(classes, absent, split)


def _unsaid_void(share: float, classes: Sequence[str], absent: Sequence[str]) -> str | None:
    if len(classes) > 1 and absent == list(classes[1:]):
        return (
            "masks hold 0 and 255 alone, must hold the numbers of the classes: for 255 as "
            f"{classes[-1]} write data.label_map: {{255: {classes[-1]}}}, for 255 as void data.void: [255]"
        )
    if share > MOST_VOID:
        return (
            f"255 is {100 * share:.0f} % of the masks' pixels, must be at most {100 * MOST_VOID:.0f} % "
            "unless it is said to be void: write data.void: [255], or for 255 as a class "
            "data.label_map: {255: CLASS}"
        )
    return None


def _absent(classes: Sequence[str], absent: Sequence[str], split: Split | None) -> str | None:
    if absent and split == "train":
        there = ", ".join(name for name in classes if name not in absent) or "none"
        return (
            f"no mask of train holds {', '.join(absent)} (there are {there}), every class must be in one: "
            f"write data.label_map, such as {{NUMBER: {absent[0]}}} for what the masks hold, or leave it out "
            "of the classes"
        )
    return None
