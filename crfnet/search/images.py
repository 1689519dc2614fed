"""The images that a search chooses on: which they are, in which order they come, and how they are read."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.score_cache import ScoreFolder
from crfnet.search.config import SearchConfig
from crfnet.search.counting import Counted, count
from crfnet.search.criteria import CRITERIA
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["Case", "Images", "draw_images", "order_of_visit"]


def draw_images(ids: Sequence[str], config: SearchConfig) -> list[str]:
    """The images that a search chooses on: `config.images` of `ids`, by `config.seed`, in the order of `ids`.

    Raises:
        InputError: fewer ids than that, or an id twice.
    """
    if len(set(ids)) != len(ids):
        raise InputError(f"search: {len(ids) - len(set(ids))} image ids come twice; expected each once")
    if len(ids) < config.images:
        raise InputError(f"search.images is {config.images}; there are {len(ids)} images to draw from")
    chosen = np.random.default_rng(config.seed).choice(len(ids), config.images, replace=False)
    return [ids[i] for i in sorted(chosen.tolist())]


def order_of_visit(drawn: Sequence[str], config: SearchConfig) -> list[str]:
    """The order in which every point sees the images: as drawn; shuffled by the seed for a race.

    A race compares points on the images seen so far, which have to be a fair sample of all.
    """
    if config.racing == 0:
        return list(drawn)
    return [drawn[i] for i in np.random.default_rng([config.seed, 1]).permutation(len(drawn)).tolist()]


class Case(NamedTuple):
    """One image with everything that scoring needs."""

    image: Image
    labels: LabelMap
    logits: Logits


class Images:
    """The drawn images in the order of visit; each visit reads and upsamples anew.

    Reading is small beside its mean field, and the memory is that of one image.

    Args:
        dataset: images and labels.
        ids: in the order of visit.
        scores: of the network.

    Raises:
        InputError: the classes do not fit, or the data set lacks an image.
    """

    def __init__(self, dataset: SegmentationDataset, ids: Sequence[str], scores: ScoreFolder) -> None:
        if scores.num_classes != dataset.num_classes:
            raise InputError(
                f"{scores.path}: scores of {scores.num_classes} classes; "
                f"{dataset.name} has {dataset.num_classes}"
            )
        self.dataset, self.ids, self.scores = dataset, tuple(ids), scores
        self._index = {image_id: i for i, image_id in enumerate(dataset.ids)}
        unknown = [image_id for image_id in ids if image_id not in self._index]
        if unknown:
            raise InputError(f"search: {dataset.name} has no image {unknown[0]!r}; it has {len(self._index)}")
        self.num_classes = dataset.num_classes

    def __len__(self) -> int:
        return len(self.ids)

    def visit(self, start: int = 0, stop: int | None = None) -> Iterator[Case]:
        """Images `start` to `stop`, one at a time."""
        for image_id in self.ids[start:stop]:
            sample = self.dataset[self._index[image_id]]
            logits = self.scores.logits(image_id, (sample.labels.shape[0], sample.labels.shape[1]))
            yield Case(sample.image[None], sample.labels, logits)

    def check(self, config: SearchConfig) -> tuple[Counted, str]:
        """Reads everything once, so that nothing can stop a long search in its middle.

        Returns:
            What is counted without CRF, and a digest of images, labels and scores.

        Raises:
            InputError: labels or scores that cannot be used; nothing to score on.
        """
        digest = hashlib.sha256()
        found = []
        for image_id, case in zip(
            self.ids, tqdm(self.visit(), "check", len(self), unit="image", mininterval=0.5), strict=True
        ):
            if case.image.shape[-2:] != case.labels.shape:
                raise InputError(f"{self.dataset.name} {image_id}: image and labels differ in size")
            prediction = case.logits[0].max(0).indices
            found.append(count([prediction], case.labels, self.num_classes, config))
            for tensor in (case.image, case.labels, self.scores.scores(image_id)):
                digest.update(tensor.contiguous().numpy().data)
        before = Counted.of_images(found)
        criterion = CRITERIA[config.criterion]
        if before.confusion.sum() == 0:
            raise InputError(f"search: all pixels of the {len(self)} images are void (255)")
        if torch.isnan(criterion.score(before.counts[0].sum(0))):
            raise InputError(
                f"search.criterion is {config.criterion!r}; the images have no pixel to score by it"
            )
        return before, digest.hexdigest()
