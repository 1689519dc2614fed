"""Validation during training: mean IoU on held-out images."""

import torch

from crfnet.data import SegmentationDataset
from crfnet.distributed import all_reduce_sum, broadcast, shard
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.evaluation.inference import predict_labels
from crfnet.segmenter import Segmenter

__all__ = ["validate"]


def validate(model: Segmenter, dataset: SegmentationDataset, images: int) -> float:
    """Compute the mean IoU over whole images, through the CRF if there is one; alike on every rank.

    Args:
        model: left in evaluation mode.
        dataset: images and truth.
        images: how many, from the first one; 0 for all.
    """
    device = next(model.parameters()).device
    broadcast(model.buffers())
    model.eval()
    classes = dataset.num_classes
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for index in shard(range(min(images or len(dataset), len(dataset)))):
        sample = dataset[index]
        prediction = predict_labels(model, sample.image.to(device))
        confusion += confusion_matrix(prediction, sample.labels.to(device), classes)
    return float(metrics(all_reduce_sum(confusion)).miou)
