"""The sentences of a report: what the arms are and what its numbers mean."""

import math
from collections.abc import Sequence

from crfnet.evaluation.evaluator import EvaluationConfig, GalleryMetric
from crfnet.report.arms import DESCRIPTIONS, ArmResult
from crfnet.report.document import Block, Bullets, Text, arm_label
from crfnet.report.metric_intervals import FEWEST_IMAGES, few_images
from crfnet.report.numbers import number

__all__ = [
    "GALLERY_METRICS",
    "about_arms",
    "about_costs",
    "about_crf",
    "about_differences",
    "about_energy",
    "about_gallery",
    "about_training",
    "about_metrics",
    "about_search",
    "about_trimaps",
    "coverage",
    "interval_note",
]

NORMALIZATIONS = {
    "after": "messages are divided by the kernel's row sum, D⁻¹K, as in the code of DeepLab and CRF-as-RNN",
    "symmetric": "D^-½ K D^-½, as pydensecrf does by default",
    "before": "marginals are divided by the kernel's row sum before filtering, K D⁻¹",
    "none": "the raw kernel sum K",
}

#: What the images of the gallery are chosen by, in words.
GALLERY_METRICS: dict[GalleryMetric, str] = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}

ABSENT = {
    "skip": "A class absent from truth and prediction is left out of the mean.",
    "zero": "A class absent from truth and prediction counts as 0, as in the script of DeepLab's authors.",
}


def about_arms(arms: Sequence[ArmResult]) -> list[Block]:
    """What each arm is, that searched images are held out, what the controls are for."""
    described = [
        f"{arm_label(arm.name)}: {DESCRIPTIONS[arm.name]}." for arm in arms if arm.name in DESCRIPTIONS
    ]
    scored = len(arms[0].evaluation)
    searched = len({id for arm in arms for id in arm.search_ids})
    folds = max(arm.folds for arm in arms)
    if folds:
        text = (
            f"All scores are over the same {scored} images. CRF parameters are cross-validated in {folds} "
            "folds: each image has those that were chosen on the other folds, without it."
        )
    elif any(arm.seen_ids for arm in arms):
        seen = len({id for arm in arms for id in arm.seen_ids})
        text = (
            f"All scores are over the same {scored} images. {seen} of them are among those that CRF "
            "parameters were searched on: they were not held out."
        )
    elif searched:
        text = (
            f"The {searched} images that CRF parameters were searched on are held out: none of them is "
            f"among the {scored} images scored here."
        )
    else:
        text = (
            f"All scores are over the same {scored} images. Images that CRF parameters were searched on must "
            "be held out of them; no list of such images was given to this report."
        )
    if {"joint", "posthoc+"} <= {arm.name for arm in arms}:
        text += (
            " The controls take the effect of the extra training out: `joint` − `posthoc+` is what training "
            "network and CRF together gives beyond searching the CRF, after equal training."
        )
    return [*([Bullets(described)] if described else []), Text(text)]


def coverage(arms: Sequence[ArmResult]) -> str:
    """Over what the numbers are, and what their intervals cover."""
    images = len(arms[0].evaluation)
    seeds = f"mean of {len(arms[0].seeds)} seeds" if arms[0].repeats else "one seed"
    if few_images(arms):
        one = images == 1
        return f"{seeds}, {images} {'image: it decides' if one else 'images: they decide'} nothing"
    return f"{seeds}, {images} images, {interval_note(arms)}"


def interval_note(arms: Sequence[ArmResult]) -> str:
    """What the intervals are, or from where on there are some."""
    if few_images(arms):
        return f"no intervals, which there are from {FEWEST_IMAGES} images on"
    return f"95 % bootstrap intervals over images{' and seeds' if arms[0].repeats else ''}"


def about_metrics(arms: Sequence[ArmResult], config: EvaluationConfig) -> str:
    """What the columns of the table of scores are."""
    mean = "; the mean over the seeds" if arms[0].repeats else ""
    shown = f"Best values bold, {interval_note(arms)} in brackets."
    if few_images(arms):
        shown = f"There are {interval_note(arms)}."
    return (
        f"In %, from one confusion matrix over all images, void pixels excluded{mean}. {shown} "
        f"{ABSENT[config.absent]} Boundary IoU is the mIoU of the "
        "pixels near contours; the boundary F-score is a mean over images. All widths: "
        "[scores.csv](scores.csv)."
    )


def about_differences(arms: Sequence[ArmResult], config: EvaluationConfig) -> str:
    """How the intervals are made, and what they cover."""
    if few_images(arms):
        return f"In percentage points; {interval_note(arms)}."
    return (
        "In percentage points, with the 95 % percentile interval of a paired bootstrap: as many images as "
        f"were scored are drawn with replacement, {config.draws} times, and both arms are scored on the same "
        f"draw. **Bold**: the interval excludes 0. {_covered(arms)}"
    )


def _covered(arms: Sequence[ArmResult]) -> str:
    seeds = len(arms[0].seeds)
    if seeds == 1:
        return "One seed: the interval covers the choice of images, not chance in training."
    return (
        f"The interval covers the choice of images and chance in training: every draw also holds {seeds - 1} "
        f"of the {seeds} seeds, drawn with replacement, the same for both arms. Where chance in training is "
        "most of it, intervals from so few seeds are too narrow (simulated: those of 3, 5 and 10 seeds hold "
        "the true difference in 75, 86 and 92 % of cases)."
    )


def about_trimaps(arms: Sequence[ArmResult]) -> str:
    """What the trimap curves show."""
    text = "Scores of the pixels inside a band of w pixels; void pixels are never scored."
    if few_images(arms):
        return f"{text} There are {interval_note(arms)}."
    return f"{text} Shaded: {interval_note(arms)}; in the panel of the gains, those of the paired difference."


def about_costs(arms: Sequence[ArmResult]) -> str:
    """How the costs were measured, and how far the wall clock can be trusted."""
    text = (
        "Seconds per image: median over images, by the wall clock and as time of all processors, measured "
        "side by side: every arm predicts an image before any predicts the next one. Peak memory: of a "
        "process that does nothing else, libraries included (on a GPU: what torch held there). Training and "
        "search: all that an arm needed, with what it shares with others."
    )
    load = arms[0].cost("machine_load")
    if math.isnan(load):
        return text
    return (
        f"{text} The load of the machine meanwhile was {number(load)} per core, this measurement included; "
        "above 1 other work ran beside it, and the wall clock tells of that too."
    )


def about_crf(arms: Sequence[ArmResult]) -> str:
    """Units of the CRF parameters and the normalization that they belong to."""
    used = dict.fromkeys(
        str(arm.crf["normalization"]) for arm in arms if arm.crf and "normalization" in arm.crf
    )
    texts = [f"`{name}` ({NORMALIZATIONS[name]})" if name in NORMALIZATIONS else f"`{name}`" for name in used]
    units = (
        "theta_alpha and theta_gamma are in pixels, theta_beta in color units of 0..255 (the papers' "
        "sigma_alpha, sigma_gamma and sigma_beta)."
    )
    if not texts:
        return units
    return (
        f"{units} They were used with the kernel normalization {', '.join(texts)}, and do not carry over to "
        "another normalization."
    )


def about_gallery(before: str, after: str, by: GalleryMetric, seed: str, *, chosen: bool = True) -> str:
    """What is compared, on which images: chosen by that, or by what is shown before; of one seed if named."""
    what = GALLERY_METRICS[by]
    if not chosen:
        return (
            f"The same images{_alone(seed)}, from {arm_label(before)} to {arm_label(after)}, the largest "
            f"gain in {what} first."
        )
    weighs = ", so a rare class weighs much" if by == "miou" else ""
    return (
        f"The images whose own {what} changes most from {arm_label(before)} to {arm_label(after)}"
        f"{_alone(seed)}, gains first, then losses; in percentage points of {what} of that image "
        f"alone{weighs}."
    )


def about_search(arms: Sequence[str], seed: str) -> str:
    """What the heat map of a search shows; of one seed where it has a name."""
    used = ", ".join(map(arm_label, arms))
    return (
        f"The search behind {used}{_alone(seed)}: its criterion in % over theta_alpha and theta_beta, one "
        "panel per w1; of several w2, theta_gamma or iterations a cell is the best. The red frame is the "
        "point that was chosen."
    )


def about_training(name: str, seeds: int) -> str:
    """What the curves of the parameters show."""
    lines = f", a line for each of {seeds} seeds" if seeds > 1 else ""
    return (
        f"The CRF's parameters while {arm_label(name)} was trained, a value per iteration (per-class weights "
        f"as their mean){lines}."
    )


def about_energy(arms: Sequence[ArmResult], seed: str) -> str:
    """What the curves of the energy show, and when they need not fall; of one seed where it has a name."""
    text = (
        f"How the CRF's inference goes on single images{_alone(seed)}, one line each. Left: free energy F(Q) "
        "above that of the network's own softmax, in nats per pixel. Right: the largest change of a marginal."
    )
    rows = {arm.crf.get("normalization") for arm in arms if arm.crf}
    if rows & {"after", "before"}:
        text += (
            " Messages divided by the kernel's row sums are not symmetric: mean field need not lower F at "
            "every step."
        )
    return text


def _alone(seed: str) -> str:
    return f" ({seed} alone)" if seed else ""
