"""The loss as DeepLab v1/v2 have it (at the network's stride), at image size, and both together."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.distributed import all_reduce_sum
from crfnet.labels import VOID
from crfnet.resize import stride_between
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, Labels, LogitMap, Logits, StridedLogits
from crfnet.training.config import TrainConfig
from crfnet.training.criterion import CROSS_ENTROPY, Criterion

__all__ = ["image_loss", "sampled_positions", "stride_loss", "training_loss"]

BatchLabels: TypeAlias = Int[Tensor, "batch h w"]  #: labels of the images of all parts


def image_loss(logits: Logits, labels: Labels, num_valid: Int[Tensor, ""] | None = None) -> Float[Tensor, ""]:
    """Compute the cross-entropy in nats, in float32 at least: the mean over pixels that are not void (255).

    A batch that is all void has loss 0 and gradient 0. All pixels of the batch count the same.

    Args:
        logits: (b, l, h, w).
        labels: of the same size.
        num_valid: number of pixels that the mean is over, where ``labels`` are a part of the batch; None for
            the valid ones of ``labels``.
    """
    if num_valid is None:
        num_valid = (labels != VOID).sum()
    return CROSS_ENTROPY.loss(logits, labels, torch.stack([num_valid, num_valid]))


def stride_loss(
    scores: StridedLogits, labels: Labels, num_valid: Int[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Compute `image_loss` at every position of the network's own map, on labels subsampled to it.

    Chen et al., DeepLab v2, section 4: all positions and all classes count the same. Labels are taken, never
    interpolated, at `sampled_positions`.
    """
    return image_loss(scores, _subsample(labels, scores), num_valid)


def _subsample(labels: Tensor, scores: LogitMap) -> Tensor:
    rows, columns = (
        torch.tensor(sampled_positions(size, count), device=labels.device)
        for size, count in zip(labels.shape[1:], scores.shape[2:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def sampled_positions(size: int, count: int) -> list[int]:
    """Return the ``count`` pixels, of ``size`` along one axis, that a network's map is compared with.

    Position i of a map of stride s sees its surroundings of pixel ``s i``: 321 pixels and 41 positions are
    every 8th pixel from 0 on; a last position beyond the image gets the last pixel. A map of no such
    stride gets the pixel under the middle of each of ``count`` equal parts.
    """
    stride = stride_between(size, count)
    if stride is None:
        return [(2 * i + 1) * size // (2 * count) for i in range(count)]
    return [min(stride * i, size - 1) for i in range(count)]


def training_loss(
    model: Segmenter,
    image: Image,
    labels: Labels,
    config: TrainConfig,
    *,
    batch: BatchLabels | None = None,
    criterion: Criterion = CROSS_ENTROPY,
    all_logits: Callable[[Image], list[LogitMap]] | None = None,
) -> Float[Tensor, ""]:
    """Compute what a training step minimizes, or this part's share of it.

    The parts of a batch, in one process or in several, add up to the loss of the whole, since each is the sum
    over its own pixels divided by the number of valid pixels of all. Every rank must call it equally often.

    Args:
        model: in the wanted mode.
        image: RGB, 0..255.
        labels: of the same size as the image.
        config: its ``loss`` says which. ``stride``: `stride_loss` of the network's own logits, the CRF
            unused. ``image``: `image_loss` of the logits at image size, behind the CRF where there is one,
            plus ``unary_loss`` times `stride_loss`, so that the network behind the CRF stays a good network.
            Where the network has more maps than one (`Segmenter.all_logits`), ``stride`` adds one loss for
            each with equal weights, as DeepLab v2 does for its scales.
        batch: labels of this process's whole batch, where ``labels`` are a part of it.
        criterion: what is computed from logits and labels, at either place.
        all_logits: the same as ``model.all_logits``, compiled.

    Returns:
        The loss; not finite when the network's logits are not.
    """
    with model.edge_features() as features:
        maps = (all_logits or model.all_logits)(image)
    all_labels: Tensor = labels if batch is None else batch
    # Counted before anything that may end differently on another rank: all have to take part.
    counts = all_reduce_sum(
        torch.stack(
            [
                criterion.sizes(all_labels),
                *(criterion.sizes(_subsample(all_labels, scores)) for scores in maps),
            ]
        )
    )
    if config.loss == "stride":
        return _sum_stride_losses(criterion, maps, labels, counts[1:])
    scores = maps[0]
    if not scores.isfinite().all():
        return scores.sum()  # not finite either; the CRF would refuse such logits as an input error
    size = (image.shape[2], image.shape[3])
    logits = model.refine(model.upsample(scores, size), image, model.learned_edges(features, size))
    total = criterion.loss(logits, labels, counts[0])
    return (
        total + config.unary_loss * _sum_stride_losses(criterion, maps, labels, counts[1:])
        if config.unary_loss
        else total
    )


def _sum_stride_losses(
    criterion: Criterion, maps: Sequence[LogitMap], labels: Labels, counts: Tensor
) -> Float[Tensor, ""]:
    parts = zip(maps, counts.unbind(), strict=True)
    losses = [criterion.loss(scores, _subsample(labels, scores), sizes) for scores, sizes in parts]
    return torch.stack(losses).sum()
