"""The search for a domain transform's widths on cached scores: a grid, then finer ones around the best."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.data import SegmentationDataset
from crfnet.domain_transform import DomainTransform, DomainTransformConfig, image_edges
from crfnet.domain_transform.config_file import save_domain_transform
from crfnet.errors import require
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.files import write_atomically, write_csv
from crfnet.files.torch_files import load_torch_file
from crfnet.score_cache import ScoreFolder
from crfnet.search.images import SearchImages
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["DomainTransformSearch", "search_domain_transform"]

BEST_FILE, TABLE_FILE, IMAGES_FILE = "best.yaml", "table.csv", "images.txt"

_Point = tuple[float, float]  # sigma_s, sigma_r


@dataclass(frozen=True)
class DomainTransformSearch:
    """Which widths are tried; the criterion is mIoU, of equal ones the first in the grid wins.

    Attributes:
        sigma_s: first-round widths over positions in pixels, increasing.
        sigma_r: first-round widths over edges, increasing.
        rounds: 1 is the coarse grid alone; every further round halves the distances, as ratios, around the
            best point.

    Raises:
        InputError: a value out of its range.
    """

    sigma_s: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0, 160.0)
    sigma_r: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0, 240.0, 480.0)
    rounds: int = 2

    def __post_init__(self) -> None:
        for name in ("sigma_s", "sigma_r"):
            axis = getattr(self, name)
            good = bool(axis) and all(math.isfinite(v) and v > 0 for v in axis)
            good = good and all(a < b for a, b in itertools.pairwise(axis))
            require(name, list(axis), good, "one or more numbers > 0, increasing")
        require("rounds", self.rounds, self.rounds >= 1, ">= 1")


def search_domain_transform(
    dataset: SegmentationDataset,
    ids: Sequence[str],
    scores: ScoreFolder,
    config: DomainTransformSearch,
    structure: DomainTransformConfig,
    folder: Path,
    *,
    device: torch.device | None = None,
) -> DomainTransformConfig:
    """Choose sigma_s and sigma_r by mIoU on cached scores, with edges of the images.

    What was counted of an image is kept in ``folder/counts``: a search that was killed goes on from there,
    and ends in the same table.

    Args:
        dataset: images and labels.
        ids: those to search on.
        scores: cached logits of them.
        config: which widths.
        structure: what else is fixed (iterations).
        folder: receives best.yaml, table.csv and images.txt; made when missing.
        device: that computes; None for the CPU.

    Returns:
        The structure with the best widths.

    Raises:
        InputError: scores that do not fit the data set, or learned edges, which no cached scores have.
    """
    require("domain_transform.edges", structure.edges, structure.edges == "image", "image in a search")
    images = SearchImages(dataset, ids, scores)
    (folder / "counts").mkdir(parents=True, exist_ok=True)
    table: dict[_Point, float] = {}
    axes, finer = [config.sigma_s, config.sigma_r], 1.0
    for number in range(1, config.rounds + 1):
        if number > 1:
            finer /= 2
            axes = _around(max(table, key=lambda point: table[point]), config, finer)
        points = [(s, r) for s, r in itertools.product(*axes) if (s, r) not in table]
        if not points:  # one value on each axis leaves nothing to refine
            break
        totals = _count(images, points, structure, folder / "counts", number, device or torch.device("cpu"))
        table |= {point: float(metrics(total).miou) for point, total in zip(points, totals, strict=True)}
    best = max(table, key=lambda point: table[point])  # of equal ones the first
    chosen = dataclasses.replace(structure, sigma_s=best[0], sigma_r=best[1])
    header = ["sigma_s", "sigma_r", "miou"]
    write_csv(folder / TABLE_FILE, header, [[*point, f"{miou:.6f}"] for point, miou in table.items()])
    write_atomically(folder / IMAGES_FILE, "".join(f"{each}\n" for each in images.ids).encode())
    save_domain_transform(
        folder / BEST_FILE,
        chosen,
        [
            "widths of a domain transform chosen by a search; sigma_s in pixels, sigma_r of 0..255",
            f"scores: {scores.source}",
            f"mIoU: {100 * table[best]:.3f} %",
            f"images: {len(images)} of {dataset.name}, listed in {IMAGES_FILE}; "
            "exclude them from reported metrics",
        ],
    )
    return chosen


def _around(best: _Point, config: DomainTransformSearch, finer: float) -> list[tuple[float, ...]]:
    """On each axis the best width and one on either side; the smallest ratio between neighbors, refined."""
    axes = []
    for center, values in zip(best, (config.sigma_s, config.sigma_r), strict=True):
        ratios = [b / a for a, b in itertools.pairwise(values)]
        ratio = min(ratios) ** finer if ratios else 1.0
        around = (float(f"{center * step:.6g}") for step in (1 / ratio, 1.0, ratio))
        axes.append(tuple(dict.fromkeys(around)))
    return axes


def _count(
    images: SearchImages,
    points: Sequence[_Point],
    structure: DomainTransformConfig,
    folder: Path,
    number: int,
    device: torch.device,
) -> Tensor:
    """Confusion matrices (points, l, l) summed over the images; of each image they are kept in a file."""
    layers = [
        DomainTransform(dataclasses.replace(structure, sigma_s=s, sigma_r=r)).to(device) for s, r in points
    ]
    key = repr((points, structure.iterations))
    total = torch.zeros(len(points), images.num_classes, images.num_classes, dtype=torch.int64)
    for i in tqdm(range(len(images)), f"search round {number}", unit="image", mininterval=0.5):
        path = folder / f"{number}-{i}.pt"
        counts = _kept(path, key)
        if counts is None:
            sample = next(images.load(i, i + 1))
            counts = _counts(layers, sample.logits.to(device), sample.image.to(device), sample.labels)
            write_atomically(path, partial(torch.save, {"key": key, "counts": counts}))
        total += counts
    return total


def _kept(path: Path, key: str) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        kept = load_torch_file(path)
        return kept["counts"] if kept["key"] == key else None
    except Exception:  # cut off, or another file: counted again
        return None


@torch.no_grad()
def _counts(layers: Sequence[DomainTransform], logits: Logits, image: Image, labels: LabelMap) -> Tensor:
    num_classes = logits.shape[1]
    edges = image_edges(image)  # once for all widths
    predictions = (layer(logits, edges=edges)[0].max(0).indices.cpu() for layer in layers)
    return torch.stack([confusion_matrix(each, labels, num_classes) for each in predictions])
