"""What limits the domain transform: the same widths with other edges, up to those of the true labels.

    python experiments/domain_transform/edges.py --scores SCORES --data.root CAMVID [--every 2]

On the images that the config draws for a search, as `run.py` does; a table of mIoU and pixel accuracy, of
each kind of edges the best of several sigma_r. `oracle` has an edge that lets nothing through between pixels
of different true labels, and none elsewhere: as good as edges can be. The scores alone and the CRF as it is
stand beside them.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, load_dataset
from crfnet.domain_transform import DomainTransform, image_edges
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.samples import select_samples
from crfnet.score_cache import ScoreFolder
from crfnet.search import draw_images

CONFIG = Path(__file__).parents[2] / "configs/camvid/scores.yaml"


def plain(sample: Sample) -> Tensor:
    """Differences between neighbors, as the layer has them."""
    return image_edges(sample.image[None])


def squared(sample: Sample) -> Tensor:
    """Weak ones weaker, strong ones stronger: a texture counts less beside a border."""
    return plain(sample).square() / 60


def smoothed(sample: Sample) -> Tensor:
    """Of the image's 3 x 3 means, at a scale of the same size: noise counts less."""
    image = F.pad(sample.image[None].float(), (1, 1, 1, 1), mode="replicate")
    return 2 * image_edges(F.avg_pool2d(image, 3, 1))


def oracle(sample: Sample) -> Tensor:
    """Infinite between two true labels, 0 elsewhere."""
    return torch.where(image_edges(sample.labels[None, None].float()) > 0, torch.inf, 0.0)


KINDS: dict[str, Callable[[Sample], Tensor]] = {
    "image": plain,
    "squared": squared,
    "smoothed": smoothed,
    "oracle": oracle,
}


def main(arguments: Sequence[str] | None = None) -> None:
    look = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, **look)
    parser.add_argument("--config", type=Path, default=CONFIG, help="images; default: CamVid's")
    parser.add_argument("--scores", type=Path, required=True, help="folder of cached scores, or one .npz")
    parser.add_argument("--every", type=int, default=1, help="every so many-th of the drawn images")
    parser.add_argument("--sigma_s", type=float, default=40.0)
    parser.add_argument("--sigma_r", type=float, nargs="+", default=[30, 60, 120, 240, 480, 960])
    options, overrides = parser.parse_known_args(arguments)
    run = load_run(options.config, overrides)
    run.set_threads()
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    ids = draw_images(dataset.ids, run.search)[:: options.every]
    totals: dict[tuple[str, float], Tensor] = {}
    for sample in tqdm(select_samples(dataset, ids), total=len(ids), mininterval=1):
        logits = scores.logits(sample.id, tuple(sample.labels.shape)).contiguous()
        for what, refined in labeled(run, sample, logits, options):
            counts = confusion_matrix(refined[0].max(0).indices, sample.labels, scores.num_classes)
            totals[what] = totals.get(what, 0) + counts
    print(f"{len(ids)} images of {dataset.name}, sigma_s {options.sigma_s:g}\n")
    print("| edges | sigma_r | mIoU % | pixel accuracy % |\n| --- | ---: | ---: | ---: |")
    for kind in dict.fromkeys(kind for kind, _ in totals):
        found = {what: metrics(total) for what, total in totals.items() if what[0] == kind}
        best = max(found, key=lambda what: float(found[what].miou))
        miou, accuracy = 100 * float(found[best].miou), 100 * float(found[best].pixel_accuracy)
        print(f"| {kind} | {best[1]:g} | {miou:.2f} | {accuracy:.2f} |")


@torch.no_grad()
def labeled(
    run: Run, sample: Sample, logits: Tensor, options: argparse.Namespace
) -> Iterator[tuple[tuple[str, float], Tensor]]:
    """Logits by kind of edges and sigma_r; `none` is the scores alone, `CRF` the CRF as it is."""
    yield ("none", 0.0), logits
    yield ("CRF", 0.0), DenseCRF(logits.shape[1], run.crf).eval()(logits, sample.image[None])
    for kind, edges_of in KINDS.items():
        edges = edges_of(sample)
        for sigma_r in options.sigma_r[: 1 if kind == "oracle" else None]:  # infinite whatever it is
            config = dataclasses.replace(run.domain_transform, sigma_s=options.sigma_s, sigma_r=sigma_r)
            yield (kind, sigma_r), DomainTransform(config).eval()(logits, edges=edges)


if __name__ == "__main__":
    main()
