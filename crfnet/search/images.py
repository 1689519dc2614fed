"""The images of a search: how they are drawn and ordered, and how they are loaded with their logits."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from crfnet.data import SegmentationDataset
from crfnet.errors import InputError, require
from crfnet.labels import VOID
from crfnet.score_cache import ScoreFolder
from crfnet.search.config import SearchConfig
from crfnet.search.counting import PointCounts, count_predictions
from crfnet.search.database import check_storage
from crfnet.search.selection_criteria import CRITERIA
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["SearchImages", "SearchSample", "check_search", "draw_images", "evaluation_order"]


def draw_images(ids: Sequence[str], config: SearchConfig) -> list[str]:
    """Draw the images of a search: `config.images` of `ids`, by `config.seed`, in the order of `ids`.

    Raises:
        InputError: fewer ids than that, or an id twice.
    """
    if len(set(ids)) != len(ids):
        raise InputError(f"search: {len(ids) - len(set(ids))} image ids occur twice, must be unique")
    fits = config.images <= len(ids)
    some = -(-len(ids) // 2)
    allowed = (
        f"at most {len(ids)}, the number of images to draw from; give --search.images {some} or another "
        "number: images that are not searched on are those that evaluate reports on"
    )
    require("search.images", config.images, fits, allowed)
    chosen = np.random.default_rng(config.seed).choice(len(ids), config.images, replace=False)
    return [ids[i] for i in sorted(chosen.tolist())]


def check_search(dataset: SegmentationDataset, ids: Sequence[str], config: SearchConfig) -> None:
    """Refuse a search whose images or database cannot be used, before there are scores.

    Raises:
        InputError: all pixels of the images are void, or none is inside the trimap of the criterion; the
            database of ``config.storage`` cannot be opened.
    """
    if config.storage:
        check_storage(config.storage)
    index = {image_id: number for number, image_id in enumerate(dataset.ids)}
    labels = [dataset[index[image_id]].labels for image_id in ids]
    if all(bool((each == VOID).all()) for each in labels):
        raise InputError(f"search: all pixels of the {len(ids)} images are void (255)")
    trimap = [CRITERIA["trimap"].prepare(each, config) for each in labels if config.criterion == "trimap"]
    if trimap and all(bool((inside == VOID).all()) for inside in trimap):
        raise InputError("search.criterion is 'trimap', but no pixel of the images is inside it")


def evaluation_order(drawn: Sequence[str], config: SearchConfig) -> list[str]:
    """The order in which every point is evaluated on the images: as drawn; shuffled by the seed for a race.

    A race compares points on the images seen so far, which must be a random sample of all.
    """
    if config.racing == 0:
        return list(drawn)
    return [drawn[i] for i in np.random.default_rng([config.seed, 1]).permutation(len(drawn)).tolist()]


class SearchSample(NamedTuple):
    """One image with everything that evaluating a point needs."""

    image: Image
    labels: LabelMap
    logits: Logits


class SearchImages:
    """The drawn images in the evaluation order; reads and upsamples an image whenever it is needed.

    Reading takes little time beside mean field, and the memory is that of one image.

    Args:
        dataset: images and labels.
        ids: in the evaluation order.
        scores: cached outputs of the network.

    Raises:
        InputError: another number of classes, or the data set lacks an image.
    """

    def __init__(self, dataset: SegmentationDataset, ids: Sequence[str], scores: ScoreFolder) -> None:
        if scores.num_classes != dataset.num_classes:
            raise InputError(
                f"{scores.path}: scores of {scores.num_classes} classes, must be {dataset.num_classes}, as "
                f"many as the data set has (data.name: {dataset.name})"
            )
        self.dataset, self.ids, self.scores = dataset, tuple(ids), scores
        self._index = {image_id: i for i, image_id in enumerate(dataset.ids)}
        unknown = [image_id for image_id in ids if image_id not in self._index]
        if unknown:
            raise InputError(f"search: {dataset.name} has no image {unknown[0]!r}; it has {len(self._index)}")
        self.num_classes = dataset.num_classes

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, start: int = 0, stop: int | None = None) -> Iterator[SearchSample]:
        """Load the images `start` to `stop`, one at a time."""
        for image_id in self.ids[start:stop]:
            sample = self.dataset[self._index[image_id]]
            logits = self.scores.logits(image_id, (sample.labels.shape[0], sample.labels.shape[1]))
            yield SearchSample(sample.image[None], sample.labels, logits)

    def validate(self, config: SearchConfig) -> tuple[PointCounts, str]:
        """Read everything once, so that no bad file can stop a long search halfway.

        Returns:
            The counts without CRF, and a digest of images, labels and scores.

        Raises:
            InputError: labels or scores that cannot be used; images on which the criterion is not defined.
        """
        digest = hashlib.sha256()
        per_image = []
        for image_id, sample in zip(
            self.ids, tqdm(self.load(), "check", len(self), unit="image", mininterval=0.5), strict=True
        ):
            if sample.image.shape[-2:] != sample.labels.shape:
                raise InputError(f"{self.dataset.name} {image_id}: image and labels differ in size")
            prediction = sample.logits[0].max(0).indices
            per_image.append(count_predictions([prediction], sample.labels, self.num_classes, config))
            for tensor in (sample.image, sample.labels, self.scores.stored_logits(image_id)):
                digest.update(tensor.contiguous().numpy().data)
        without_crf = PointCounts.concatenate_images(per_image)
        criterion = CRITERIA[config.criterion]
        if without_crf.confusion.sum() == 0:
            raise InputError(f"search: all pixels of the {len(self)} images are void (255)")
        if torch.isnan(criterion.metric(without_crf.criterion[0].sum(0))):
            raise InputError(
                f"search.criterion is {config.criterion!r}, but no pixel of the images is inside it"
            )
        return without_crf, digest.hexdigest()
