"""Writes the report of a comparison: report.md, scores.csv and the figures beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from crfnet.errors import InputError
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.evaluation.predict import Palette
from crfnet.evaluation.trimap import BANDS, Band
from crfnet.files import write_atomically
from crfnet.report.arms import ArmResult, check_arms
from crfnet.report.curves import save_figure, trimap_figure
from crfnet.report.pictures import StripSample, strip_figure
from crfnet.report.prose import (
    about_arms,
    about_band,
    about_crf,
    about_differences,
    about_scores,
    about_trimaps,
)
from crfnet.report.scores import Scores, bands_with_pixels, score_arms
from crfnet.report.tables import (
    class_table,
    crf_table,
    difference_table,
    fact_table,
    score_table,
    scores_csv,
    shown_metrics,
)

__all__ = ["write_report"]


STRIPS = ("![strip](strip.png)", "Wrong pixels in orange, void in white:", "![errors](errors.png)")


def write_report(
    folder: Path,
    arms: Sequence[ArmResult],
    *,
    title: str,
    class_names: Sequence[str],
    palette: Palette,
    facts: Mapping[str, str],
    strip_samples: Sequence[StripSample],
    config: EvaluationConfig,
) -> Path:
    """Write report.md, scores.csv, trimap_{void,change}.png, strip.png and errors.png; return report.md.

    Args:
        folder: made when missing; files of these names are replaced.
        arms: the first is the baseline of the curves.
        title: heading.
        class_names: of every class.
        palette: colour of every class.
        facts: how the run was made: command, commit, hardware, versions, path of the config.
        strip_samples: images to show (see `largest_changes`); without any there are no strips.
        config: absent classes and bootstrap.

    A band without pixels gets a sentence instead of a figure.

    Raises:
        InputError: the arms cannot be compared (`check_arms`), or names or colours do not fit the classes.
    """
    _check(arms, class_names, palette)
    names = [arm.name for arm in arms]
    bands = bands_with_pixels(arms[0].evaluation)
    max_width = arms[0].evaluation.max_width
    figures = _strips(strip_samples, names, palette, class_names)
    scores = score_arms(arms, class_names, config)
    figures |= {f"trimap_{band}.png": trimap_figure(scores, names, band, max_width) for band in bands}
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    write_atomically(folder / "scores.csv", scores_csv(arms, scores).encode())
    sections = [
        f"# {title}",
        about_arms(arms),
        *_score_sections(arms, scores, shown_metrics(bands, max_width), config),
        *_trimap_sections(bands),
        "## Each class",
        "IoU in %, differences in points (bold: the 95 % interval excludes 0; intervals are in scores.csv).",
        class_table(arms, scores, class_names),
        *(["## Pictures", *STRIPS] if strip_samples else []),
        *(["## CRF parameters", about_crf(arms), crf_table(arms)] if any(arm.crf for arm in arms) else []),
        *(["## How this was made", fact_table(facts)] if facts else []),
    ]
    path = folder / "report.md"
    write_atomically(path, ("\n\n".join(sections) + "\n").encode())
    return path


def _check(arms: Sequence[ArmResult], class_names: Sequence[str], palette: Palette) -> None:
    check_arms(arms)
    classes = arms[0].evaluation.num_classes
    if len(class_names) != classes:
        raise InputError(
            f"class_names has {len(class_names)} entries: the evaluations have {classes} classes"
        )
    if len(palette) < classes:
        raise InputError(f"palette has {len(palette)} colours: the evaluations have {classes} classes")


def _strips(
    samples: Sequence[StripSample], names: Sequence[str], palette: Palette, class_names: Sequence[str]
) -> dict[str, Figure]:
    """Made before the long bootstrap, so that a bad sample is told at once."""
    if not samples:
        return {}
    return {
        f"{name}.png": strip_figure(samples, names, palette, class_names, errors=name == "errors")
        for name in ("strip", "errors")
    }


def _score_sections(
    arms: Sequence[ArmResult], scores: Scores, columns: Mapping[str, str], config: EvaluationConfig
) -> list[str]:
    sections = ["## Scores", about_scores(config), score_table(arms, scores, columns)]
    if len(arms) > 1:
        sections += ["## Differences", about_differences(config), difference_table(arms, scores, columns)]
    return sections


def _trimap_sections(bands: Sequence[Band]) -> list[str]:
    sections = ["## Near the borders", about_trimaps()]
    for band in BANDS:
        sections.append(about_band(band, band in bands))
        if band in bands:
            sections.append(f"![trimap {band}](trimap_{band}.png)")
    return sections
