"""Trimaps and paired intervals put together by hand, which the package's own are compared with."""

import torch

from crfnet.evaluation.bootstrap import percentile_interval, resample_counts, resampled
from crfnet.evaluation.confusion import confusion_matrix
from crfnet.evaluation.trimap import band_distance
from crfnet.labels import VOID


def trimap_confusions(prediction, labels, num_classes, band, max_width, element="square"):
    """Confusion matrix for each width: of labels that are void outside the band."""
    distance = band_distance(labels, band, element)
    inside = [labels.masked_fill(distance > width, VOID) for width in range(1, max_width + 1)]
    return torch.stack([confusion_matrix(prediction, each, num_classes) for each in inside]).int()


def paired_interval(a, b, statistic, draws, seed=0):
    """Interval of the difference of two arms whose images are drawn alike; counts of each image first."""
    counts = resample_counts(len(a), draws, seed)
    samples = resampled(b, statistic, counts) - resampled(a, statistic, counts)
    return percentile_interval(statistic(b.sum(0).double()) - statistic(a.sum(0).double()), samples)
