"""crfnet: segmentation networks with sharp boundaries; DeepLab and a differentiable dense CRF."""

__version__ = "0.1.0"
