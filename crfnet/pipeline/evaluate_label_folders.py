"""Two folders of PNGs, predictions and labels, scored without a data set or a network."""

import math
from collections.abc import Sequence
from pathlib import Path

from crfnet.distributed import on_rank_zero
from crfnet.evaluation.csv_tables import write_tables
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.label_folders import evaluate_folders
from crfnet.evaluation.named_metrics import interval
from crfnet.files import write_json
from crfnet.labels import VOC_PALETTE
from crfnet.pipeline.build import resolve_device
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import check_folder, output_folder, provenance
from crfnet.report import FEWEST_IMAGES, ArmResult, console_table, write_report

__all__ = ["evaluate_label_folders"]


def evaluate_label_folders(
    predictions: Path,
    labels: Path,
    class_names: Sequence[str],
    run: Run,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    command: str = "",
) -> str:
    """Scores label maps against those of the same name, 255 = void.

    Args:
        predictions: folder of ``<id>.png``.
        labels: folder of ``<id>.png``.
        class_names: of the labels 0, 1, ...
        run: how it is scored, and on which device.
        output: folder for tables and a report; without it nothing is written.
        overwrite: replace what is there.
        command: for the record.

    Returns:
        The scores as text, and where the rest lies.

    Raises:
        InputError: anything that cannot be used, before anything is written.
    """
    if output is not None:
        on_rank_zero(lambda: check_folder(output, resume=False, overwrite=overwrite))
    config, device = run.evaluation, resolve_device(run.device)
    evaluation = evaluate_folders(predictions, labels, len(class_names), config, device)
    arm = ArmResult("predictions", evaluation, math.nan, math.nan, math.nan, math.nan, folder=output)

    def finish() -> str:
        text = "\n".join([console_table([arm], config), *_boundary_scores(evaluation, run)])
        if output is None:
            return text
        with output_folder(output, resume=False, overwrite=overwrite):
            facts = provenance(command)
            write_json(output / "run.json", facts)
            facts["data"] = f"{len(evaluation)} images: {predictions} against {labels}"
            evaluation.save(output / "evaluation.npz")
            write_tables(output, evaluation, class_names, config.absent)
            report = write_report(
                output,
                [arm],
                title=f"Evaluation of {predictions.name}",
                class_names=class_names,
                palette=VOC_PALETTE,
                facts=facts,
                strip_samples=(),
                config=config,
            )
        written = f"per image, per class, trimaps: {output}/*.csv\nreport: {report}, report.html"
        return f"{text}\n\n{written}"

    return on_rank_zero(finish)


def _boundary_scores(evaluation: Evaluation, run: Run) -> list[str]:
    """Boundary IoU and F, a line each, with their intervals where there are images enough."""
    lines = []
    for title, name in (("Boundary IoU", "boundary_iou"), ("boundary F", "boundary_f")):
        found = interval(evaluation, name, run.evaluation)
        low, high, value = (100 * each for each in (found.low, found.high, found.estimate))
        bounds = "" if len(evaluation) < FEWEST_IMAGES else f" [{low:.2f}, {high:.2f}]"
        lines.append(f"{title} {value:.2f}{bounds}")
    return lines
