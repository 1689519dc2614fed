"""The dense CRF as a differentiable layer. Start at README.md in this folder."""

from crfnet.crf.crfasrnn import from_crfasrnn, to_crfasrnn
from crfnet.crf.inference import FrankWolfe, MeanField
from crfnet.crf.layer import PRESETS, CRFConfig, DenseCRF
from crfnet.crf.loss import DenseCRFLoss
from crfnet.crf.potentials import BilateralKernel, FeatureKernel, SpatialKernel

__all__ = [
    "PRESETS",
    "BilateralKernel",
    "CRFConfig",
    "DenseCRF",
    "DenseCRFLoss",
    "FeatureKernel",
    "FrankWolfe",
    "MeanField",
    "SpatialKernel",
    "from_crfasrnn",
    "to_crfasrnn",
]
