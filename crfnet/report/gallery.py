"""The gallery: the images on which two arms differ most, for better and for worse."""

from collections.abc import Sequence

from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.labels import Palette, overlay
from crfnet.report.arms import ArmResult, check_arms
from crfnet.report.closeup import border_window, cut
from crfnet.report.document import Change, Gallery, Table, arm_label, plain
from crfnet.report.explanations import GALLERY_METRICS
from crfnet.report.image_strip import StripSample, image_metrics, largest_changes, seen_classes
from crfnet.report.numbers import percent, signed
from crfnet.report.results import early_verdict

__all__ = ["PAIRS", "gallery", "picture_pairs", "shown_images"]

#: (before, after): the first of these that a comparison has, beside the one of the answer, is shown, too.
PAIRS = (("posthoc+", "joint"), ("posthoc", "joint"), ("unary", "joint"))

_DEFAULT = EvaluationConfig()


def picture_pairs(arms: Sequence[ArmResult], config: EvaluationConfig = _DEFAULT) -> list[tuple[str, str]]:
    """The arms that are shown side by side, before and after; none where there is one arm alone.

    First the baseline with the arm that the answer names; then joint training with the fairest other arm.
    """
    check_arms(arms)
    names = [arm.name for arm in arms]
    if len(names) == 1:
        return []
    verdict = early_verdict(arms, config)
    named = verdict.pair[0] if verdict.pair is not None and verdict.outcome != "gain" else verdict.winner
    first = (names[0], named if named != names[0] else names[1])
    others = [pair for pair in PAIRS if set(pair) <= set(names) and set(pair) != set(first)]
    return [first, *others[:1]]


def shown_images(
    arms: Sequence[ArmResult], count: int, config: EvaluationConfig = _DEFAULT
) -> tuple[str, ...]:
    """The ``count`` images of the first pair of pictures (see `largest_changes`); of one arm the first ones.

    Of several seeds, those of the first.
    """
    by_name = {arm.name: arm.evaluation for arm in arms}
    pairs = picture_pairs(arms, config)
    if not pairs:
        return arms[0].evaluation.ids[:count]
    before, after = pairs[0]
    return largest_changes(by_name[before], by_name[after], count, config)


def gallery(
    arms: Sequence[ArmResult],
    pair: tuple[str, str],
    samples: Sequence[StripSample],
    palette: Palette,
    class_names: Sequence[str],
    config: EvaluationConfig,
) -> Gallery:
    """Both arms' labels over each sample, largest gain first."""
    before, after = pair
    old, new = (_metrics(next(arm for arm in arms if arm.name == name), config) for name in pair)
    changes = [_change(sample, (old[sample[0]], new[sample[0]]), pair, palette) for sample in samples]
    changes.sort(key=lambda change: change.after - change.before, reverse=True)
    rows = [[plain(c.id), percent(c.before), percent(c.after), signed(c.after - c.before)] for c in changes]
    what = GALLERY_METRICS[config.gallery]
    header = ["image", *(f"{what} of {arm_label(name)}" for name in pair), "change"]
    seen = [(i, j, k, {name: p[name] for name in pair}) for i, j, k, p in samples]
    return Gallery(
        before,
        after,
        changes,
        seen_classes(seen, palette, class_names),
        Table("Images that change most", header, rows),
    )


def _change(
    sample: StripSample, scores: tuple[float, float], pair: tuple[str, str], palette: Palette
) -> Change:
    """A sample with what the two arms made of it, whole and close up."""
    id, image, labels, predictions = sample
    before, after = (predictions[name] for name in pair)
    window = border_window(labels, before, after)
    height, width = labels.shape
    maps = {"truth": labels, **dict(zip(pair, (before, after), strict=True))}
    return Change(
        id,
        *scores,
        (window.top / height, window.left / width, window.height / height, window.width / width),
        {"image": cut(image, window)}
        | {name: overlay(cut(image, window), cut(each, window), palette) for name, each in maps.items()},
        image,
        *(overlay(image, each, palette) for each in maps.values()),
    )


def _metrics(arm: ArmResult, config: EvaluationConfig) -> dict[str, float]:
    """The score of each image by itself."""
    return dict(zip(arm.evaluation.ids, image_metrics(arm.evaluation, config).tolist(), strict=True))
