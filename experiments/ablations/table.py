"""table.md and table.csv: a line for each row, with what it gains on the row that it is compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rows import Row

from crfnet.evaluation.bootstrap import Interval, seeds_bootstrap
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import interval, named_metric
from crfnet.files import write_atomically, write_csv
from crfnet.report.numbers import number, percent, points, with_range

NUMBERS = ("w1", "theta_alpha", "theta_beta", "w2")
METRICS = {"miou": "mIoU", "boundary_iou": "Boundary IoU", "trimap_void/miou@3": "within 3 px of void"}


@dataclass(frozen=True)
class Result:
    """What became of a row.

    Attributes:
        row: see `Row`.
        evaluations: of every seed.
        numbers: seconds and the CRF's parameters, of every seed that was run.
    """

    row: Row
    evaluations: Sequence[Evaluation]
    numbers: Sequence[Mapping[str, float]]

    def mean(self, name: str) -> float:
        return fmean(each.get(name, math.nan) for each in self.numbers)


def write_tables(
    folder: Path, results: Sequence[Result], config: EvaluationConfig, facts: Mapping[str, str]
) -> None:
    """Write both for the rows that are done."""
    by_name = {each.row.name: each for each in results}
    pairs = [(each, by_name.get(each.row.against)) for each in results]
    lines = [line_of(*pair, config) for pair in pairs]
    write_csv(folder / "table.csv", lines[0], (line.values() for line in lines))
    header = [
        "row",
        "changed",
        "images",
        "mIoU",
        "against",
        *(f"− that, {name}" for name in METRICS.values()),
    ]
    header += ["the paper's", "training, processor s", "test, processor s / image", *NUMBERS]
    shown = [header, ["---", "---", "---:", "---:", "---", *["---:"] * (len(header) - 5)]]
    shown += [cells(*pair, config) for pair in pairs]
    made = [f"- {name}: {value}" for name, value in facts.items()]
    seeds = max(len(result.numbers) for result in results)
    about = (
        "mIoU in %, differences in points, with 95 % bootstrap intervals over images"
        + (f" and {seeds} seeds" if seeds > 1 else "; one seed")
        + ". The paper's: CRF-as-RNN, section 7.1, on the same 346 images if this is VOC."
    )
    text = [about, "", *(f"| {' | '.join(line)} |" for line in shown), "", *made]
    write_atomically(folder / "table.md", ("\n".join(text) + "\n").encode())


def line_of(result: Result, other: Result | None, config: EvaluationConfig) -> dict[str, object]:
    """A line of table.csv: fractions, seconds of processor time, the CRF's parameters at the end."""
    row = result.row
    line: dict[str, object] = {"row": row.name, "changed": changed(row), "seeds": len(result.numbers)}
    line |= {"images": len(result.evaluations[0]), "against": row.against, "paper_points": row.paper}
    for metric in METRICS:
        line[metric] = text(level(result, metric, config).estimate)
        found = gain(result, other, metric, config)
        values = {"": found.estimate, "_low": found.low, "_high": found.high}
        line |= {f"{metric}_minus_against{part}": text(value) for part, value in values.items()}
    names = ("train_seconds", "test_seconds", *NUMBERS)
    return line | {name: text(result.mean(name)) for name in names}


def cells(result: Result, other: Result | None, config: EvaluationConfig) -> list[str]:
    """A line of table.md."""
    row, score = result.row, level(result, "miou", config)
    gains = [bold(gain(result, other, metric, config)) for metric in METRICS]
    numbers = [number(result.mean(name)) for name in ("train_seconds", "test_seconds", *NUMBERS)]
    images = str(len(result.evaluations[0]))
    shown = percent(score.estimate) + with_range(score)
    return [row.name, changed(row), images, shown, row.against or "–", *gains, row.paper or "–", *numbers]


def changed(row: Row) -> str:
    """What a row is, in words and keys."""
    keys = ", ".join(f"{key} {value}" for key, value in row.changes.items())
    kinds = {
        "no CRF": not row.crf,
        f"the CRF of {row.of}, tested otherwise": bool(row.of),
        "not trained": row.crf and not row.trains and not row.of,
        "network trained, too": row.trains and row.network == "trained",
        "start: the config's": row.crf and row.start == "config",
    }
    return "; ".join([*(kind for kind, holds in kinds.items() if holds), *([keys] if keys else [])]) or "–"


def level(result: Result, metric: str, config: EvaluationConfig) -> Interval:
    """A row's own score; its interval is that of the images, of the first seed where there are several."""
    found = interval(result.evaluations[0], metric, config)
    mean = fmean(named_metric(metric, config.absent).score(each) for each in result.evaluations)
    shift = mean - found.estimate
    return Interval(found.low + shift, found.high + shift, mean)


def gain(result: Result, other: Result | None, metric: str, config: EvaluationConfig) -> Interval:
    """The difference over the images that both have scored, paired."""
    if other is None:
        return Interval(math.nan, math.nan, math.nan)
    ids = [name for name in result.evaluations[0].ids if name in set(other.evaluations[0].ids)]
    named = named_metric(metric, config.absent)
    arms = [
        torch.stack(
            [named.per_image(each)[[each.ids.index(name) for name in ids]] for each in arm.evaluations]
        )
        for arm in (other, result)
    ]
    return seeds_bootstrap(*arms, named.statistic, config.draws, config.seed, paired=True)


def bold(found: Interval) -> str:
    return f"**{points(found)}**" if found.excludes_zero else points(found)


def text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
