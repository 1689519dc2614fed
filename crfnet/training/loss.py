"""Cross-entropy as DeepLab v1/v2 have it (at the network's stride), at image size, and both together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from crfnet.data import VOID
from crfnet.resize import stride_between
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, Labels, Logits, ScoreMap, Scores
from crfnet.training.config import TrainConfig

__all__ = ["image_loss", "sampled_positions", "stride_loss", "training_loss"]


def image_loss(logits: Logits, labels: Labels) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over the pixels that are not void (255), in nats.

    A batch that is all void has loss 0 and gradient 0. All pixels of the batch count the same.
    """
    valid = (labels != VOID).sum()
    total = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
    return total / valid.clamp_min(1)


def stride_loss(scores: Scores, labels: Labels) -> Float[Tensor, ""]:
    """`image_loss` at every position of the network's own map, on labels subsampled to it.

    Chen et al., DeepLab v2, section 4: all positions and all classes count the same. Labels are taken, never
    interpolated, at `sampled_positions`.
    """
    rows, columns = (
        torch.tensor(sampled_positions(size, count), device=labels.device)
        for size, count in zip(labels.shape[1:], scores.shape[2:], strict=True)
    )
    return image_loss(scores, labels[:, rows[:, None], columns])


def sampled_positions(size: int, count: int) -> list[int]:
    """The ``count`` pixels, of ``size`` along one axis, that a network's map is compared with.

    Position i of a map of stride s sees its surroundings of pixel ``s i``: 321 pixels and 41 positions are
    every 8th pixel from 0 on; a last position beyond the image gets the last pixel. A map of no such
    stride gets the pixel under the middle of each of ``count`` equal parts.
    """
    stride = stride_between(size, count)
    if stride is None:
        return [(2 * i + 1) * size // (2 * count) for i in range(count)]
    return [min(stride * i, size - 1) for i in range(count)]


def training_loss(model: Segmenter, image: Image, labels: Labels, config: TrainConfig) -> Float[Tensor, ""]:
    """What a training step minimises.

    Args:
        model: in the wanted mode.
        image: RGB, 0..255.
        labels: of the same size as the image.
        config: its ``loss`` says which. ``stride``: `stride_loss` of the network's own logits, the CRF
            unused. ``image``: `image_loss` of the logits at image size, behind the CRF where there is one,
            plus ``unary_loss`` times `stride_loss`, so that the network behind the CRF stays a good network.
            Where the network has more maps than one (`Segmenter.all_scores`), ``stride`` adds one loss for
            each with equal weights, as DeepLab v2 does for its scales.

    Returns:
        The loss; not finite when the network's logits are not.
    """
    maps = model.all_scores(image)
    if config.loss == "stride":
        return _summed(maps, labels)
    scores = maps[0]
    if not scores.isfinite().all():
        return scores.sum()  # not finite either; the CRF would refuse such logits as an input error
    logits = model.upsample(scores, (image.shape[2], image.shape[3]))
    if model.crf is not None:
        logits = model.crf(logits, image)
    total = image_loss(logits, labels)
    return total + config.unary_loss * _summed(maps, labels) if config.unary_loss else total


def _summed(maps: Sequence[ScoreMap], labels: Labels) -> Float[Tensor, ""]:
    return torch.stack([stride_loss(scores, labels) for scores in maps]).sum()
