"""What became of the runs: a table with outcomes and intervals, every step, and curves."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.named_metrics import difference, named_metric
from crfnet.pipeline.run_config import Run

TRIMAP = "trimap_void/miou@3"
NUMBERS = ("w1", "theta_alpha", "theta_beta", "w2")
CRF = (*NUMBERS, "theta_gamma")
LOGGED = ("loss", "gradient_norm", *NUMBERS)
ONE_CLASS = 0.99  #: share of the validation pixels with the commonest predicted label
OFF = 0.05  #: a CRF of smaller weights does nothing
LEAST_THETA, LARGEST_BETA = 0.5, 255 * math.sqrt(3)


@dataclass(frozen=True)
class Row:
    """A row of settings.yaml: a config's keys that are changed, and with what it is compared."""

    name: str
    group: str
    seeds: int = 1
    start: str = "searched"
    crf: bool = True
    control: str = "control"
    changes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, group: str, changes: Mapping[str, Any] | None = None, **rest: Any) -> "Row":
        return cls(name, group, changes=tuple((changes or {}).items()), **rest)


def folder_of(output: Path, name: str, seed: int) -> Path:
    return output / "rows" / name.replace(" ", "_").replace("/", "_") / f"seed{seed}"


def read_log(folder: Path) -> list[dict[str, float]]:
    """Every step's numbers; of weights per class the mean, of matrices the mean of the diagonal."""
    lines = []
    log = folder / "log.jsonl"
    for text in log.read_text().splitlines() if log.is_file() else ():
        line = json.loads(text)
        numbers = {name: line[name] for name in ("step", "loss", "gradient_norm")}
        for name, value in line.get("crf", {}).items():
            array = np.asarray(value, dtype=float)
            numbers[name] = float(np.diag(array).mean() if array.ndim == 2 else array.mean())
        lines.append(numbers)
    return lines


def evaluations(folder: Path) -> dict[int, Evaluation]:
    """By the step after which they were made."""
    return {int(path.stem): Evaluation.load(path) for path in sorted(folder.glob("[0-9]*.npz"))}


def write_results(output: Path, rows: Mapping[Row, Run]) -> None:
    """Writes results.csv, table.md, curves.csv and a figure per group for rows that are finished."""
    lines = [summary(output, row, run) for row, run in rows.items()]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    with (output / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()})
    (output / "table.md").write_text("\n".join([*TABLE, *map(table_line, lines)]) + "\n")
    with (output / "curves.csv").open("w", newline="") as stream:
        steps = csv.writer(stream, lineterminator="\n")
        steps.writerow(["setting", "seed", "step", *LOGGED, "miou", TRIMAP])
        for row, seed in ((each, seed) for each in rows for seed in range(each.seeds)):
            steps.writerows([row.name, seed, *line] for line in curve(folder_of(output, row.name, seed)))
    for group in dict.fromkeys(row.group for row in rows):
        shown = {row.name: folder_of(output, row.name, 0) for row in rows if row.group == group}
        draw(output / f"curves_{group}.png", group, shown)


def summary(output: Path, row: Row, run: Run) -> dict[str, Any]:
    """A line of results.csv: means over the seeds, differences with their intervals over images and seeds."""
    folders = [folder_of(output, row.name, seed) for seed in range(row.seeds)]
    logs = [read_log(folder) for folder in folders]
    found: dict[str, Any] = {"group": row.group, "setting": row.name, "seeds": row.seeds, "outcome": ""}
    found["gradient_norm_most"] = max(line["gradient_norm"] for log in logs for line in log)
    failed = [len(log) + 1 for log, at in zip(logs, folders, strict=True) if (at / "error.txt").exists()]
    if failed:
        return found | {"outcome": f"diverged in step {min(failed)}"}
    starts = [Evaluation.load(folder / "0000.npz") for folder in folders]
    ends, alone = (
        [end_of(folder) for folder in folders],
        [Evaluation.load(f / "network.npz") for f in folders],
    )
    controls = [end_of(folder_of(output, row.control, seed)) for seed in range(row.seeds)]
    found["miou"], found["network_miou"] = (
        float(np.mean([float(each.metrics().miou) for each in some])) for some in (ends, alone)
    )
    predicted = [end.confusion.sum((0, 1)) for end in ends]
    found["most_predicted"] = max(float(each.max() / each.sum()) for each in predicted)
    pairs = (("start", starts, "miou"), ("control", controls, "miou"), ("control_trimap", controls, TRIMAP))
    for name, others, metric in pairs:
        gain = difference(others, ends, metric, run.evaluation, paired=True)
        values = {"": gain.estimate, "_low": gain.low, "_high": gain.high}
        found |= {f"minus_{name}{part}": value for part, value in values.items()}
    found |= {name: float(np.mean([log[-1][name] for log in logs])) for name in logs[0][-1] if name in CRF}
    return found | {"outcome": outcome(found, row.crf, math.hypot(*run.data.toy.size))}


def outcome(found: Mapping[str, Any], has_crf: bool, diagonal: float) -> str:
    """The first kind of collapse in README.md that applies; else how it stands to the control."""
    limits = {"theta_alpha": diagonal, "theta_gamma": diagonal, "theta_beta": LARGEST_BETA}
    outside = any(not LEAST_THETA <= found.get(name, 1.0) <= most for name, most in limits.items())
    kinds = {
        "one class": found["most_predicted"] >= ONE_CLASS,
        "worse than start": found["minus_start_high"] < 0,
        "CRF off": has_crf and max(found["w1"], found["w2"]) < OFF,
        "width out of range": outside,
        "better": found["minus_control_low"] > 0,
        "worse than control": found["minus_control_high"] < 0,
        "as control": True,
    }
    return next(kind for kind, holds in kinds.items() if holds)


def end_of(folder: Path) -> Evaluation:
    return Evaluation.load(max(folder.glob("[0-9]*.npz")))


TABLE = (
    "| setting | seeds | outcome | mIoU | − start | − control | trimap − control | network alone | w1 | "
    "theta_alpha | theta_beta | w2 | largest gradient |",
    "| --- | ---: | --- " + "| ---: " * 10 + "|",
)


def table_line(found: Mapping[str, Any]) -> str:
    def gain(name: str) -> str:
        if name not in found:
            return "–"
        low, high, value = (100 * found[name + part] for part in ("_low", "_high", ""))
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"

    percents = [f"{100 * found[name]:.1f}" if name in found else "–" for name in ("miou", "network_miou")]
    ends = [f"{found[name]:.3g}" if name in found else "–" for name in NUMBERS]
    gains = [gain(f"minus_{name}") for name in ("start", "control", "control_trimap")]
    if found["setting"] == "control":
        gains[1:] = ["–", "–"]
    cells = [found["setting"], str(found["seeds"]), found["outcome"], percents[0], *gains, percents[1], *ends]
    return "| " + " | ".join([*cells, f"{found['gradient_norm_most']:.3g}"]) + " |"


def curve(folder: Path) -> list[list[str]]:
    """Every step's numbers, and the scores where the weights were kept; step 0 has nothing else."""
    kept = {int(path.stem): Evaluation.load(path) for path in sorted(folder.glob("[0-9]*.npz"))}
    scored = {
        step: (float(each.metrics().miou), named_metric(TRIMAP).score(each)) for step, each in kept.items()
    }
    logged = {int(line["step"]): line for line in read_log(folder)}
    return [
        [
            str(step),
            *(f"{logged.get(step, {}).get(name, math.nan):.6g}" for name in LOGGED),
            *(f"{value:.6g}" for value in scored.get(step, (math.nan, math.nan))),
        ]
        for step in sorted({*logged, *scored})
    ]


def draw(path: Path, title: str, folders: Mapping[str, Path]) -> None:
    """A panel per number, a line per setting (seed 0)."""
    figure = Figure(figsize=(13, 6.4), dpi=90, layout="constrained")
    panels = figure.subplots(2, 4).flatten()
    for index, (name, folder) in enumerate(folders.items()):
        lines = [[float(value) for value in line] for line in curve(folder)]
        for column, panel in enumerate(panels, start=1):
            points = [(line[0], line[column]) for line in lines if not math.isnan(line[column])]
            x, y = zip(*points, strict=True) if points else ((), ())
            panel.plot(x, y, f"C{index}o-" if column > len(LOGGED) else f"C{index}-", label=name)
    for panel, label in zip(panels, (*LOGGED, "mIoU", f"mIoU: {TRIMAP}"), strict=True):
        panel.set_title(label, fontsize="medium")
        panel.set_yscale("log" if label in LOGGED[1:] else "linear")
        panel.grid(color="0.92")
    figure.supxlabel("joint step", fontsize="medium")
    figure.suptitle(title.replace("_", " "), fontsize="medium")
    names = panels[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside right center", fontsize="small", frameon=False)
    figure.savefig(path)
