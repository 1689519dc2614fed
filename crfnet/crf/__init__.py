"""The dense CRF as a differentiable layer. Start at README.md in this folder."""

from crfnet.crf.crfasrnn import from_crfasrnn, to_crfasrnn
from crfnet.crf.inference import FrankWolfe, MeanField
from crfnet.crf.layer import PRESETS, CRFConfig, DenseCRF
from crfnet.crf.loss import DenseCRFLoss
from crfnet.crf.potentials import BilateralPotential, FeaturePotential, SpatialPotential

__all__ = [
    "PRESETS",
    "BilateralPotential",
    "CRFConfig",
    "DenseCRF",
    "DenseCRFLoss",
    "FeaturePotential",
    "FrankWolfe",
    "MeanField",
    "SpatialPotential",
    "from_crfasrnn",
    "to_crfasrnn",
]
