"""What takes the sureness out of an answer: images that a search has used, images that were made up."""

from collections.abc import Iterator

from crfnet.report.document import arm_label
from crfnet.report.verdict import Results

__all__ = ["MADE_UP", "chosen_on_these"]

#: The fact of a report on the toy set that is told behind the answer, too, with what it says.
MADE_UP = {
    "made-up images": "The toy set is made up, and a CRF gains much more on it than on photos (PASCAL VOC: "
    "about 1 point over the image, about 2 near borders): these numbers are no forecast for photos."
}


def chosen_on_these(results: Results) -> Iterator[str]:
    """That the parameters of some arms were chosen on images that are scored, or may have been."""
    unknown = [arm_label(name) for name, seen in results.seen.items() if seen is None]
    for name, seen in results.seen.items():
        if seen:
            share = f"{seen} of the {results.images} images"
            if seen == results.images:
                share = "the one image" if seen == 1 else f"all {seen} images"
            yield (
                f"The parameters of {arm_label(name)} were chosen on {share} scored here: what "
                "it gains on those is more than on new ones."
            )
    if unknown:
        yield (
            f"Nothing tells on which images the parameters of {' and '.join(unknown)} were chosen: if on "
            "some of these, the gain is more than on new ones."
        )
