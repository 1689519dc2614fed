"""Random scale, crop and mirror, and the endless training sequence made of them; every number from a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from crfnet.data.dataset import Sample, SegmentationDataset
from crfnet.errors import require
from crfnet.labels import VOID, Color

__all__ = ["MEAN_COLOR", "AugmentConfig", "TrainingStream", "augment"]

MEAN_COLOR: Color = (124, 116, 104)  #: mean of ImageNet, which a backbone's normalization takes to about 0


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied (DeepLab v2, section 4.1.2; any scale between the two limits).

    Attributes:
        crop: Height and width of what comes out, in pixels.
        scale: Smallest and largest factor of the image's size.
        mirror: Whether every second image, at random, is mirrored left to right.
    """

    crop: tuple[int, int] = (321, 321)
    scale: tuple[float, float] = (0.5, 1.5)
    mirror: bool = True

    def __post_init__(self) -> None:
        require("augment.crop", list(self.crop), min(self.crop) >= 1, "height and width of at least 1")
        ordered = 0 < self.scale[0] <= self.scale[1] < float("inf")
        require("augment.scale", list(self.scale), ordered, "0 < smallest <= largest")


def augment(sample: Sample, config: AugmentConfig, fill: Color, seed: int) -> Sample:
    """One random scale, crop and mirror of ``sample``; a pure function of its arguments.

    No global random state is read or changed. A scaled image smaller than the crop lies anywhere in it.

    Args:
        sample: An image of any size.
        config: The ranges to draw from.
        fill: Color outside the image (of one channel its mean, of more the colors in turn); the labels there
            are void.
        seed: >= 0.

    Returns:
        The same id; image and labels of size ``config.crop``.
    """
    draw = np.random.default_rng(seed)
    factor = draw.uniform(*config.scale)
    height, width = (max(1, round(side * factor)) for side in sample.labels.shape)
    image = transforms.resize(sample.image, [height, width], InterpolationMode.BILINEAR, antialias=True)
    # Not as a tv_tensors.Mask: that takes "nearest", whose grid is up to half a pixel off the bilinear one.
    labels = transforms.resize(
        sample.labels[None].to(torch.uint8), [height, width], InterpolationMode.NEAREST_EXACT
    )
    top, left = (
        int(draw.integers(min(0, side - crop), max(0, side - crop), endpoint=True))
        for side, crop in zip((height, width), config.crop, strict=True)
    )
    right, bottom = left + config.crop[1], top + config.crop[0]
    missing = [max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)]
    box = (max(0, top), max(0, left), *config.crop)
    image = transforms.crop(transforms.pad(image, missing, fill=_filling(fill, sample.image.shape[0])), *box)
    labels = transforms.crop(transforms.pad(labels, missing, fill=VOID), *box)
    if config.mirror and draw.random() < 0.5:
        image, labels = transforms.horizontal_flip(image), transforms.horizontal_flip(labels)
    return Sample(sample.id, image.contiguous(), labels[0].long())


def _filling(fill: Color, channels: int) -> list[int]:
    if channels == 1:
        return [round(sum(fill) / 3)]
    return [fill[channel % 3] for channel in range(channels)]


class TrainingStream(Dataset[Sample]):
    """The endless training sequence: item k is a pure function of (seed, k).

    Epoch ``k // len(dataset)`` is a permutation of all images drawn from (seed, epoch); the augmentation is
    drawn from (seed, k). So a run that stopped goes on at its k, and neither the number of workers nor the
    batch size changes what is seen. It has no length: give a ``DataLoader`` the wanted items,
    ``sampler=range(first, last)``.
    """

    def __init__(
        self, dataset: SegmentationDataset, config: AugmentConfig, *, seed: int, fill: Color = MEAN_COLOR
    ) -> None:
        """Draws nothing yet; ``seed`` >= 0, ``fill`` is the color around small images."""
        if seed < 0:
            raise ValueError(f"seed is {seed}, must be at least 0")
        self._dataset, self._config, self._seed, self._fill = dataset, config, seed, fill

    def __getitem__(self, k: int) -> Sample:
        """Item ``k`` >= 0; its size is the crop's."""
        if k < 0:
            raise IndexError(f"item {k} of an endless sequence, must be at least 0")
        epoch, place = divmod(k, len(self._dataset))
        # The numbers in the middle keep the two streams of random numbers apart.
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._dataset))
        seed = int(np.random.SeedSequence((self._seed, 1, k)).generate_state(1, np.uint64)[0])
        return augment(self._dataset[int(order[place])], self._config, self._fill, seed)
