"""Two folders of PNGs, predictions and labels: no network, no data set, no configuration."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from crfnet.distributed import is_rank_zero, on_all_ranks, shard
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.labels import VOID, read_label_png

__all__ = ["evaluate_folders", "png_pairs"]

_OVERLAY = "_overlay"  #: ``ID_overlay.png`` beside ``ID.png`` is a picture of it, not a label map


def png_pairs(predictions: Path, labels: Path) -> dict[str, tuple[Path, Path]]:
    """(prediction, labels) of every id, which is the name of both files without ``.png``; sorted.

    Raises:
        InputError: a folder is missing or holds no PNG, or a file has no partner in the other.
    """
    found = [_pngs(folder) for folder in (predictions, labels)]
    for mine, others, folder in ((found[0], found[1], labels), (found[1], found[0], predictions)):
        alone = sorted(set(mine) - set(others))
        if alone:
            more = f" and {len(alone) - 1} others" if len(alone) > 1 else ""
            raise InputError(
                f"{mine[alone[0]]}{more}: no partner of that name in {folder}, must be one for each"
            )
    return {id: (found[0][id], found[1][id]) for id in sorted(found[0])}


def evaluate_folders(
    predictions: Path,
    labels: Path,
    num_classes: int,
    config: EvaluationConfig,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Score the label maps in one folder against those of the same name in the other, 255 = void.

    Several processes (`crfnet.distributed`) share the images; all return all of them.

    Args:
        predictions: folder of ``ID.png``; pictures ``ID_overlay.png`` beside them are left out.
        labels: folder of ``ID.png``.
        num_classes: both hold labels 0..num_classes-1.
        config: widths and element.
        device: where pixels are counted.

    Raises:
        InputError: see `png_pairs`; a file is no label map, the sizes of two differ, a label is outside
            the classes, or 255 seems to be the object.
    """
    pairs = png_pairs(predictions, labels)

    def some(ids: Sequence[str]) -> tuple[Evaluation, set[int]]:
        values: set[int] = set()
        evaluation = Evaluation(num_classes, config.max_width, config.element, config.boundary)
        for id in tqdm(ids, "evaluate", unit="image", mininterval=0.5, disable=not is_rank_zero()):
            mine, truth = pairs[id]
            prediction, target = read_label_png(mine).to(device), read_label_png(truth)
            values.update(target.unique().tolist())
            try:
                evaluation.add(id, prediction, target)
            except InputError as error:
                raise InputError(f"{mine} against {truth}: {error}") from error
        return evaluation, values

    parts, values = zip(*on_all_ranks(lambda: some(shard(list(pairs)))), strict=True)
    if set().union(*values) == {0, VOID} and num_classes > 1:
        raise InputError(
            f"{labels}: the label maps hold 0 and 255 alone, must hold numbers of {num_classes} classes "
            "(255 is void, which is not scored)"
        )
    return Evaluation.of_parts(parts, list(pairs))


def _pngs(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, must be one of label PNGs")
    found = {
        path.stem: path for path in folder.iterdir() if path.suffix.lower() == ".png" and path.name[0] != "."
    }
    for id in [id for id in found if id.endswith(_OVERLAY) and id.removesuffix(_OVERLAY) in found]:
        del found[id]
    if not found:
        raise InputError(f"{folder}: holds no .png, must be a folder of label PNGs")
    return found
