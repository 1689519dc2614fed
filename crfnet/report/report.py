"""Writes the report of a comparison: report.md with PNGs beside it, report.html by itself, scores.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from crfnet.errors import InputError, printable
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.files import write_atomically
from crfnet.labels import Palette
from crfnet.report.answer_blocks import answer_blocks
from crfnet.report.arms import ArmResult, check_arms, compared_pairs
from crfnet.report.caveats import MADE_UP
from crfnet.report.class_gains import class_gain_blocks
from crfnet.report.document import (
    Block,
    Document,
    Plot,
    Section,
    Text,
    arm_label,
    plain,
)
from crfnet.report.explanations import (
    about_arms,
    about_costs,
    about_crf,
    about_differences,
    about_metrics,
    about_trimaps,
    interval_note,
)
from crfnet.report.html import html
from crfnet.report.image_strip import StripSample
from crfnet.report.markdown import markdown, png_files
from crfnet.report.metric_figures import class_figure, trimap_figure
from crfnet.report.metric_intervals import (
    MetricIntervals,
    bands_with_pixels,
    few_images,
    metric_intervals,
)
from crfnet.report.picture_blocks import picture_blocks
from crfnet.report.report_json import write_report_json
from crfnet.report.results import border_band, results_of
from crfnet.report.stage_blocks import energy_blocks, search_blocks, training_blocks
from crfnet.report.tables import (
    BORDER_WIDTH,
    class_table,
    cost_table,
    crf_table,
    difference_table,
    fact_table,
    fold_columns,
    measured_costs,
    metric_table,
    metrics_csv,
    shown_metrics,
)
from crfnet.report.trimap_names import about_band, band_name
from crfnet.report.verdict import crf_pair, decide, joint_pair

__all__ = ["write_report"]


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
    """Write report.html, and the same as report.md with .png and scores.csv beside it; return report.md.

    Args:
        folder: made when missing; files of these names are replaced.
        arms: the first is the baseline of the curves.
        title: heading.
        class_names: of every class.
        palette: color of every class.
        facts: how the run was made: command, commit, hardware, versions, path of the config.
        strip_samples: images to show (see `shown_images`), labels of the first seed; without any there are no
            pictures.
        config: absent classes, bootstrap and what the gallery is ordered by.

    A band without pixels gets a sentence instead of a figure; what an arm's folders do not hold (search,
    training, energies) gets no section. Where every arm has a folder, report.json is written, from which
    `read_report_json` has all of this again.

    Raises:
        InputError: the arms cannot be compared (`check_arms`), or names or colors do not fit the classes.
    """
    _check(arms, class_names, palette)
    own_names, class_names = class_names, [printable(name) for name in class_names]
    # Made before the long bootstrap, so that a bad sample is told at once.
    pictures = list(picture_blocks(arms, strip_samples, palette, class_names, config))
    intervals = metric_intervals(arms, class_names, config)
    sections: dict[str, Sequence[Block]] = {
        "Pictures": pictures,
        "What was compared": about_arms(arms),
        **_numbers(arms, intervals, config),
        "Near the borders": _trimaps(arms, intervals),
        "Each class": _classes(arms, intervals, class_names),
        "Costs": _costs(arms),
        "CRF parameters": [Text(about_crf(arms)), crf_table(arms)] if any(arm.crf for arm in arms) else [],
        "Search of the CRF's parameters": list(search_blocks(arms)),
        "CRF parameters during training": list(training_blocks(arms)),
        "Energy over the iterations": list(energy_blocks(arms)),
        "How this was made": [fact_table(facts)] if facts else [],
    }
    caveats = _caveats(facts)
    answer = answer_blocks(
        folder, arms, intervals, class_names, command=facts.get("command", ""), made_up=bool(caveats)
    )
    document = Document(
        title,
        [*answer, *caveats],
        [Section(name, blocks) for name, blocks in sections.items() if blocks],
        {"scores.csv": metrics_csv(arms, intervals).encode()},
    )
    for name, content in {**png_files(document), **document.files}.items():
        write_atomically(folder / name, content)
    write_atomically(folder / "report.html", html(document).encode())
    write_report_json(folder, arms, title, own_names, palette, facts, config)
    path = folder / "report.md"
    write_atomically(path, markdown(document).encode())
    return path


def _caveats(facts: Mapping[str, str]) -> list[Block]:
    """What takes from an answer that is told below, too."""
    return [Text(f"**{plain(facts[name])}**") for name in MADE_UP if name in facts]


def _check(arms: Sequence[ArmResult], class_names: Sequence[str], palette: Palette) -> None:
    check_arms(arms)
    classes = arms[0].evaluation.num_classes
    if len(class_names) != classes:
        raise InputError(f"class_names has {len(class_names)} entries, must be {classes} as the classes")
    if len(palette) < classes:
        raise InputError(f"palette has {len(palette)} colors, must be at least {classes} as the classes")


def _numbers(
    arms: Sequence[ArmResult], intervals: MetricIntervals, config: EvaluationConfig
) -> dict[str, Sequence[Block]]:
    evaluation = arms[0].evaluation
    columns = shown_metrics(bands_with_pixels(evaluation), evaluation.max_width)
    band, width = border_band(evaluation), min(BORDER_WIDTH, evaluation.max_width)
    matters = [columns["miou"], *([band_name(band, width)] if band else []), columns["boundary_iou"]]
    differences = [
        Text(about_differences(arms, config)),
        *fold_columns(difference_table(arms, intervals, columns), matters),
    ]
    return {
        "Scores": [
            Text(about_metrics(arms, config)),
            *fold_columns(metric_table(arms, intervals, columns), matters),
        ],
        "Differences": differences if len(arms) > 1 else [],
    }


def _trimaps(arms: Sequence[ArmResult], intervals: MetricIntervals) -> list[Block]:
    evaluation, names = arms[0].evaluation, [arm.name for arm in arms]
    bands = bands_with_pixels(evaluation)
    if not bands:
        return [Text("No two classes touch and nothing is void: there are no borders to look at.")]
    blocks: list[Block] = [Text(about_trimaps(arms))]
    for band in bands:
        blocks.append(Text(about_band(band, evaluation.element)))
        figure = trimap_figure(intervals, names, band, evaluation.max_width)
        alt = f"Curves of the intervals of {', '.join(names)} against the width of the {band} trimap"
        blocks.append(Plot(f"trimap_{band}", alt, figure))
    return blocks


def _classes(
    arms: Sequence[ArmResult], intervals: MetricIntervals, class_names: Sequence[str]
) -> list[Block]:
    names = [arm.name for arm in arms]
    results = results_of(arms, intervals, class_names)
    pairs = [pair for pair in (crf_pair(results), joint_pair(results)) if pair] or compared_pairs(names)[:2]
    shown = [" − ".join(map(arm_label, pair)) for pair in pairs]
    named = dict.fromkeys((names[0], decide(results).winner))
    text = (
        "IoU in %, differences in points (bold: the 95 % interval excludes 0; all intervals are in "
        f"scores.csv). Lines on the bars: {interval_note(arms)}."
    )
    if few_images(arms):
        text = f"IoU in %, differences in points; {interval_note(arms)}."
    alt = f"Bars of the IoU of each class with {', '.join(names)}; the numbers are in the table"
    return [
        Text(text),
        Plot("classes", alt, class_figure(intervals, names, class_names)),
        *class_gain_blocks(names, intervals, class_names),
        *fold_columns(class_table(arms, intervals, class_names), [*map(arm_label, named), *shown]),
    ]


def _costs(arms: Sequence[ArmResult]) -> list[Block]:
    return [Text(about_costs(arms)), cost_table(arms)] if measured_costs(arms) else []
