"""The domain transform: smoothing of logits that stops at edges, faster than a dense CRF and weaker."""

from crfnet.domain_transform.config import DomainTransformConfig
from crfnet.domain_transform.edges import EdgeNet, image_edges
from crfnet.domain_transform.layer import DomainTransform

__all__ = [
    "DomainTransform",
    "DomainTransformConfig",
    "EdgeNet",
    "image_edges",
]
