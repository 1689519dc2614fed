"""``evaluate`` of two folders of PNGs, without a config."""

import math
from argparse import Namespace
from collections.abc import Sequence

from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError
from crfnet.evaluation.csv_tables import write_tables
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.label_folders import evaluate_folders
from crfnet.evaluation.named_metrics import interval
from crfnet.files import write_json
from crfnet.labels import VOC_PALETTE, VOID
from crfnet.pipeline.compare import resolve_device
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import check_folder, open_folder, provenance
from crfnet.report import ArmResult, console_table, write_report

__all__ = ["evaluate_folders_command"]


def evaluate_folders_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Two folders of label maps, without a data set; of the overrides, those that say how it is scored."""
    names = _check_folders(options, overrides)
    run = load_run(None, overrides)
    config, folder = run.evaluation, options.output
    if options.resume:
        raise InputError("evaluate --resume: needs a CONFIG; two folders are scored from the beginning")
    if folder is not None:
        on_rank_zero(lambda: check_folder(folder, resume=False, overwrite=options.overwrite))
    device = resolve_device(run.device)
    evaluation = evaluate_folders(options.predictions, options.labels, len(names), config, device)
    return on_rank_zero(lambda: _told(evaluation, names, run, options, command))


def _told(evaluation: Evaluation, names: Sequence[str], run: Run, options: Namespace, command: str) -> str:
    """Writes what is to be written; returns what is to be said."""
    config, folder = run.evaluation, options.output
    arm = ArmResult("predictions", evaluation, math.nan, math.nan, math.nan, math.nan, folder=folder)
    lines = [console_table([arm], config)]
    for title, name in (("Boundary IoU", "boundary_iou"), ("boundary F", "boundary_f")):
        found = interval(evaluation, name, config)
        low, high, value = (100 * each for each in (found.low, found.high, found.estimate))
        lines.append(f"{title} {value:.2f} [{low:.2f}, {high:.2f}]")
    if folder is None:
        return "\n".join(lines)
    open_folder(folder, resume=False, overwrite=options.overwrite)
    facts = provenance(command)
    write_json(folder / "run.json", facts)
    facts["data"] = f"{len(evaluation)} images: {options.predictions} against {options.labels}"
    evaluation.save(folder / "evaluation.npz")
    write_tables(folder, evaluation, names, config.absent)
    report = write_report(
        folder,
        [arm],
        title=f"Evaluation of {options.predictions.name}",
        class_names=names,
        palette=VOC_PALETTE,
        facts=facts,
        strip_samples=(),
        config=config,
    )
    return "\n".join(
        [*lines, f"\nper image, per class, trimaps: {folder}/*.csv", f"report: {report}, report.html"]
    )


def _check_folders(options: Namespace, overrides: Sequence[str]) -> list[str]:
    """The names of the classes; without a config, only some options mean something."""
    if options.predictions is None or options.labels is None or options.num_classes is None:
        raise InputError("evaluate: give a CONFIG, or --predictions DIR --labels DIR --num-classes N")
    for name in ("crf", "exclude", "split"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name}: needs a CONFIG")
    keys = [each.partition("=")[0] for each in overrides if each.startswith("--")]
    strangers = [key for key in keys if not key.startswith("--evaluation.") and key != "--device"]
    if strangers:
        raise InputError(f"evaluate {strangers[0]}: without CONFIG only --evaluation.* and --device are read")
    if not 2 <= options.num_classes <= VOID:
        raise InputError(f"evaluate --num-classes: {options.num_classes}; allowed are 2..{VOID}")
    if options.class_names is None:
        return [str(i) for i in range(options.num_classes)]
    names = [name.strip() for name in options.class_names.split(",")]
    if len(names) != options.num_classes:
        raise InputError(
            f"evaluate --class-names: {len(names)} names; --num-classes says {options.num_classes}"
        )
    return names
