"""Axis 3: how the marginals are found. A new scheme is a file beside this one and a line in `INFERENCES`."""

from crfnet.crf.inference.contract import Inference
from crfnet.crf.inference.frank_wolfe import FrankWolfe
from crfnet.crf.inference.mean_field import MeanField

__all__ = ["INFERENCES", "FrankWolfe", "Inference", "MeanField"]

INFERENCES: dict[str, type[Inference]] = {
    "mean_field": MeanField,
    "frank_wolfe": FrankWolfe,
}
