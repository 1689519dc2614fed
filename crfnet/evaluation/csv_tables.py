"""An evaluation as CSV files: one row per image, per class, and per width of a trimap. Fractions in 0..1."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.boundary import boundary_f, f_scores
from crfnet.evaluation.confusion import Absent, tallies, tally_metrics
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.named_metrics import MEANS
from crfnet.evaluation.trimap import BANDS
from crfnet.files import csv_text, write_atomically

__all__ = ["IMAGE_WIDTHS", "per_class_csv", "per_image_csv", "trimap_csv", "write_tables"]

IMAGE_WIDTHS = (2, 5, 10)  #: trimap widths in the table of images, pixels


def write_tables(
    folder: Path, evaluation: Evaluation, class_names: Sequence[str], absent: Absent = "skip"
) -> None:
    """Write ``per_image.csv``, ``per_class.csv`` and ``trimap.csv`` into the folder, atomically.

    Raises:
        InputError: there are more or fewer names than classes.
    """
    for name, text in (
        ("per_image.csv", per_image_csv(evaluation, absent)),
        ("per_class.csv", per_class_csv(evaluation, class_names, absent)),
        ("trimap.csv", trimap_csv(evaluation, absent)),
    ):
        write_atomically(folder / name, text.encode())


def per_image_csv(evaluation: Evaluation, absent: Absent = "skip") -> str:
    """One row per image, in the order they were added; every score is of this image alone.

    Empty where nothing defines a score. Columns: ``id``, ``pixels`` that were scored, the means of the whole
    image, ``boundary_iou``, ``boundary_f``, and the mIoU in each band of a few widths.
    """
    counts = tallies(evaluation.confusion)
    found = tally_metrics(counts, absent)
    total, defined = boundary_f(evaluation.contour_matches).unbind(-1)
    columns: dict[str, Tensor] = {
        "pixels": counts[..., 1].sum(-1),
        **{name: getattr(found, name) for name in MEANS},
        "boundary_iou": tally_metrics(evaluation.boundary_tallies, absent).miou,
        "boundary_f": total / defined,
    }
    for band in BANDS:
        for width in (w for w in IMAGE_WIDTHS if w <= evaluation.max_width):
            inside = tally_metrics(evaluation.trimap_tallies(band, width), absent)
            columns[f"trimap_{band}/miou@{width}"] = inside.miou
    return _table({"id": evaluation.ids} | {name: each.tolist() for name, each in columns.items()})


def per_class_csv(evaluation: Evaluation, class_names: Sequence[str], absent: Absent = "skip") -> str:
    """One row per class, over all images together.

    Columns: ``class``, ``name``, ``images`` whose truth shows the class, pixels of ``truth`` and
    ``predicted``, ``iou``, ``accuracy`` (recall), ``precision``, ``boundary_iou``, and ``boundary_f``, the
    mean over the images in which truth or prediction has a boundary of the class.

    Raises:
        InputError: there are more or fewer names than classes.
    """
    if len(class_names) != evaluation.num_classes:
        raise InputError(
            f"class_names has {len(class_names)} entries, must be {evaluation.num_classes} as the classes"
        )
    per_image = tallies(evaluation.confusion).long()
    hits, truth, predicted = per_image.sum(0).unbind(-1)
    found = tally_metrics(per_image.sum(0), absent)
    columns: dict[str, Tensor] = {
        "images": (per_image[..., 1] > 0).sum(0),
        "truth": truth,
        "predicted": predicted,
        "iou": found.per_class_iou,
        "accuracy": found.per_class_accuracy,
        "precision": hits / predicted,
        "boundary_iou": tally_metrics(evaluation.boundary_tallies.sum(0), absent).per_class_iou,
        "boundary_f": f_scores(evaluation.contour_matches).nanmean(0),
    }
    first = {"class": range(evaluation.num_classes), "name": class_names}
    return _table(first | {name: each.tolist() for name, each in columns.items()})


def trimap_csv(evaluation: Evaluation, absent: Absent = "skip") -> str:
    """The curves: one row per band and width, ``pixels`` in the band and the means inside it."""
    rows: dict[str, list[object]] = {name: [] for name in ("band", "width", "pixels", *MEANS)}
    for band in BANDS:
        found = evaluation.trimap_metrics(band, absent)
        widths = range(1, evaluation.max_width + 1)
        rows["band"] += [band] * len(widths)
        rows["width"] += widths
        rows["pixels"] += [int(evaluation.trimap_tallies(band, width)[..., 1].sum()) for width in widths]
        for name in MEANS:
            rows[name] += getattr(found, name).tolist()
    return _table(rows)


def _table(columns: Mapping[str, Iterable[object]]) -> str:
    return csv_text(columns, ([_cell(value) for value in row] for row in zip(*columns.values(), strict=True)))


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
