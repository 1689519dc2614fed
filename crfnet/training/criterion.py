"""What is summed over pixels and images: cross-entropy with class weights, focal loss, Dice."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from crfnet.data import SegmentationDataset
from crfnet.data.check import balanced_weights
from crfnet.distributed import on_rank_zero
from crfnet.labels import VOID
from crfnet.shapes import Labels, LogitMap
from crfnet.training.config import TrainConfig

__all__ = ["CROSS_ENTROPY", "Criterion", "class_weights"]


@dataclass(frozen=True)
class Criterion:
    """``(1 - dice) * mean over pixels of w_y (1 - p_y)^focal (-log p_y) + dice * mean over images of Dice``.

    The mean over pixels is that of their weights w_y. Void takes part in nothing. Parts of a batch, each
    divided by the sizes of the whole, add up to the loss of the whole.

    Attributes:
        class_weights: w of each class; empty for 1.
        focal: the exponent of Lin et al. 2017 (gamma); 0 is cross-entropy.
        dice: share of ``1 - Dice`` (Milletari et al. 2016, of probabilities), which for an image is the mean
            over the classes in its labels; in [0, 1].
    """

    class_weights: tuple[float, ...] = ()
    focal: float = 0.0
    dice: float = 0.0

    def sizes(self, labels: Labels) -> Num[Tensor, "2"]:
        """What the sums of the two parts are divided by: weights of valid pixels; images with one."""
        valid = labels != VOID
        images = valid.flatten(1).any(1).sum()
        if not self.class_weights:
            return torch.stack([valid.sum(), images])
        weights = self._weights(labels, torch.float64)
        return torch.stack([weights[labels[valid]].sum(), images.to(weights)])

    def loss(self, logits: LogitMap, labels: Labels, sizes: Num[Tensor, "2"]) -> Float[Tensor, ""]:
        """This part's share of the loss, in float32 at least.

        Args:
            logits: (b, l, h, w).
            labels: of the same size.
            sizes: of all parts together.
        """
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        pixels, images = (size if self.class_weights == () else size.to(precise) for size in sizes.unbind())
        smallest = 1 if self.class_weights == () else torch.finfo(precise.dtype).tiny
        loss = self._pixel_sum(precise, labels) / pixels.clamp_min(smallest)
        if self.dice == 0:
            return loss
        overlap = _dice_sum(precise, labels) / images.clamp_min(1)
        return (1 - self.dice) * loss + self.dice * overlap

    def _pixel_sum(self, logits: LogitMap, labels: Labels) -> Float[Tensor, ""]:
        weights = self._weights(logits, logits.dtype) if self.class_weights else None
        if self.focal == 0:
            return F.cross_entropy(logits, labels, weights, ignore_index=VOID, reduction="sum")
        surprise = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none")
        # 1 - p, exact for p near 1; kept off 0, where an exponent below 1 has no gradient.
        missing = -torch.expm1(-surprise)
        weighted = missing.clamp_min(torch.finfo(logits.dtype).eps) ** self.focal * surprise
        if weights is not None:
            weighted = weighted * weights[labels.where(labels != VOID, 0)]
        return weighted.sum()

    def _weights(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.tensor(self.class_weights, dtype=dtype, device=like.device)


CROSS_ENTROPY = Criterion()


def _dice_sum(logits: LogitMap, labels: Labels) -> Float[Tensor, ""]:
    """Sum over images of 1 - Dice, each the mean over the classes that its labels hold."""
    valid = labels != VOID
    truth = F.one_hot(labels.where(valid, 0), logits.shape[1]).movedim(-1, 1) * valid.unsqueeze(1)
    probability = logits.softmax(1) * valid.unsqueeze(1)
    area = truth.sum((2, 3))
    both = (probability * truth).sum((2, 3))
    score = 2 * both / (probability.sum((2, 3)) + area).clamp_min(1)
    there = area > 0
    return ((1 - score) * there / there.sum(1, keepdim=True).clamp_min(1)).sum()


def class_weights(config: TrainConfig, dataset: SegmentationDataset) -> tuple[float, ...]:
    """The weights that ``train.class_weights`` means for a data set; ``balanced`` counts its pixels."""
    if config.class_weights != "balanced":
        return tuple(config.class_weights)
    pixels: Sequence[int] = on_rank_zero(lambda: dataset.pixels[:-1])
    return tuple(balanced_weights(pixels))
