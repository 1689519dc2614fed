"""The dense CRF as a differentiable layer. Start at README.md in this folder."""

from crfnet.crf.inference import MeanField
from crfnet.crf.kernels import BilateralKernel, SpatialKernel
from crfnet.crf.layer import PRESETS, CRFConfig, DenseCRF

__all__ = ["PRESETS", "BilateralKernel", "CRFConfig", "DenseCRF", "MeanField", "SpatialKernel"]
