"""What the bands around borders are called, everywhere: "3 px of void" and "3 px of borders"."""

from collections.abc import Sequence

from crfnet.evaluation.dilation import Element
from crfnet.evaluation.trimap import Band

__all__ = ["about_band", "band_meaning", "band_name", "band_notes", "breakable", "within"]

_OF: dict[Band, str] = {"void": "void", "change": "borders"}

#: Said where a band is first named.
_MEANINGS: dict[Band, str] = {
    "void": "the ribbon along objects that is not scored",
    "change": "where two classes meet",
}

#: What a band of width w is grown with, and the distance that it stands for.
_ELEMENT_NAMES: dict[Element, tuple[str, str]] = {
    "square": ("a square of side 2w+1", "Chebyshev"),
    "disc": ("a disc of radius w", "Euclidean"),
    "cross": ("the 3 x 3 cross w times", "city-block"),
}

_DEFINITIONS: dict[Band, str] = {
    "void": "**w px of void**: the void region dilated by {grown}, minus void itself{authors}. "
    "w = 1 touches the void ribbon, which is itself not scored.",
    "change": "**w px of borders**: pixels within {distance} distance w of a change between two non-void "
    "classes, on either side. The pixel that touches the change has distance 1; the image border is no "
    "boundary.",
}


def band_name(band: Band, width: int | str) -> str:
    """The short form, for headings: the pixels within a width of void, or of borders between classes."""
    return f"{width} px of {_OF[band]}"


def within(band: Band, width: int | str) -> str:
    """The same in a sentence."""
    return f"within {band_name(band, width)}"


def breakable(name: str) -> str:
    """The short form as a heading that may be broken before its last words."""
    return name.replace(" of ", "\nof ")


def band_meaning(band: Band) -> str:
    """What void is, what a border is, in a few words."""
    return _MEANINGS[band]


def band_notes(bands: Sequence[Band], width: int | str) -> str:
    """What the columns of these bands hold, in one sentence; empty without any."""
    told = [f"{band_name(band, width)} ({band_meaning(band)})" for band in bands]
    return f"{' and '.join(told)}: mIoU of the pixels that near alone" if told else ""


def about_band(band: Band, element: Element) -> str:
    """Definition of a band as grown with ``element``."""
    grown, distance = _ELEMENT_NAMES[element]
    authors = " (the evaluation of DeepLab's authors)" if element == "square" else ""
    return _DEFINITIONS[band].format(grown=grown, distance=distance, authors=authors)
