"""The section of pictures: arms side by side over photos, then a strip of all arms."""

from collections.abc import Iterator, Sequence

from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.labels import Palette
from crfnet.report.arms import ArmResult
from crfnet.report.document import Block, Folded, Picture, Text, png_of
from crfnet.report.explanations import about_gallery
from crfnet.report.gallery import gallery, picture_pairs
from crfnet.report.image_strip import StripSample, strip_figure

__all__ = ["picture_blocks"]


def picture_blocks(
    arms: Sequence[ArmResult],
    samples: Sequence[StripSample],
    palette: Palette,
    class_names: Sequence[str],
    config: EvaluationConfig,
) -> Iterator[Block]:
    """The baseline beside the arm of the answer, joint training on request, every arm."""
    if not samples:
        return
    pairs = picture_pairs(arms, config)
    names = [*dict.fromkeys((*pairs[0], *(arm.name for arm in arms)))] if pairs else [arms[0].name]
    strips = [
        png_of(strip_figure(samples, names, palette, class_names, errors=errors)) for errors in (False, True)
    ]
    seed = arms[0].seed_labels[0] if arms[0].repeats else ""
    for place, pair in enumerate(pairs):
        text = Text(about_gallery(*pair, config.gallery, seed, chosen=place == 0))
        changes = gallery(arms, pair, samples, palette, class_names, config)
        if place == 0:
            yield from (text, changes)
        else:
            yield Folded(f"The same images with {' and '.join(pair)}", [text, changes])
    shown, columns = ", ".join(names), 2 + len(names)
    alone = f" ({seed} alone)" if seed else ""
    yield Text(f"Image, truth and every arm{alone}, and below each the frame close up:")
    yield Picture("strip", f"Images, truth and the labels of {shown}", strips[0], columns)
    errors = Picture("errors", f"Images, truth and the wrong pixels of {shown}", strips[1], columns)
    yield Folded("The same with wrong pixels in orange", [Text("Void is white."), errors])
