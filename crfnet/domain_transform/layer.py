"""The domain transform as a layer: logits and an image's edges in, logits that stop at edges out."""

import dataclasses
import math

import torch
from torch import Tensor, nn

from crfnet.crf.checks import check_input
from crfnet.domain_transform.config import DomainTransformConfig
from crfnet.domain_transform.edges import EdgeNet, image_edges
from crfnet.domain_transform.recursive import recursive_filter
from crfnet.shapes import EdgeMap, Image, Logits, Mask, NeighborWeights

__all__ = ["DomainTransform"]


class DomainTransform(nn.Module):
    """Edge-preserving smoothing of logits by passes along rows and columns: a fast relative of the CRF.

    Chen et al. 2016, "Semantic Image Segmentation with Task-Specific Edge Detection Using CNNs and a
    Discriminatively Trained Domain Transform"; the filter is Gastal & Oliveira's recursive one (2011). In
    iteration k of K, logits follow ``y_i = (1 - w_i) x_i + w_i y_(i-1)`` to the right, to the left, down and
    up, with ``w_i = exp(-sqrt(2) / sigma_k (1 + sigma_s / sigma_r g_i))``, ``sigma_k = sigma_s sqrt(3)
    2^(K-k) / sqrt(4^K - 1)``, and g_i the edge between pixel i and its neighbor. Unlike a dense CRF it only
    smooths: labels do not compete, and regions that an edge encloses do not hear from each other.

    Stateless but for its parameters: any size, any batch, any classes, any device. Computes in float32 under
    autocast and for half-precision logits; float64 logits compute in float64. Gradients of the first order.

    Args:
        config: what to build; None for the defaults.
        edge_net: makes the edges from a network's features; None for the differences of the image.
    """

    def __init__(
        self, config: DomainTransformConfig | None = None, *, edge_net: EdgeNet | None = None
    ) -> None:
        super().__init__()
        self.config = config = config or DomainTransformConfig()
        self.edge_net = edge_net
        learned = config.learn_sigma
        self.log_sigma_s = nn.Parameter(torch.tensor(math.log(config.sigma_s)), requires_grad=learned)
        self.log_sigma_r = nn.Parameter(torch.tensor(math.log(config.sigma_r)), requires_grad=learned)

    def forward(
        self,
        logits: Logits,
        image: Image | None = None,
        *,
        edges: EdgeMap | None = None,
        mask: Mask | None = None,
    ) -> Logits:
        """Smooth logits, but not across edges.

        Args:
            logits: at image size, finite.
            image: 0..255, not normalized, any channels; not needed where edges are given.
            edges: instead of the image's; of one channel, the same for both directions, or of two: between
                each pixel and the one to its left, and the one above it.
            mask: (b, h, w), False for pixels that neither send nor receive (padding); they keep their logits.

        Returns:
            Logits, float32 (float64 for float64 logits).

        Raises:
            ValueError: shapes, dtypes or devices do not fit, values are not finite, the image is clearly not
                0..255, edges are below 0, there is neither an image nor edges, or no edges though there is an
                `EdgeNet` to make them (`Segmenter` does).
        """
        smooth = torch.compiler.disable(self._smooth) if torch.compiler.is_compiling() else self._smooth
        return smooth(logits, image, edges, mask)

    def _smooth(
        self, logits: Tensor, image: Tensor | None, edges: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        check_input(logits, image, logits.shape[1], mask=mask)
        if edges is None:
            if self.edge_net is not None:
                raise ValueError("edges are None, must be those of edge_net: Segmenter gives them")
            if image is None:
                raise ValueError("image is None, must be given where edges are not")
            edges = image_edges(image)
        _check_edges(edges, logits)
        with torch.autocast(logits.device.type, enabled=False):
            values = logits if logits.dtype == torch.float64 else logits.float()
            return recursive_filter(values, self.neighbor_weights(edges.to(values), mask))

    def neighbor_weights(self, edges: EdgeMap, mask: Mask | None = None) -> NeighborWeights:
        """The weights w of all iterations; 0 across the rim of a mask."""
        sigma_s, sigma_r = self.log_sigma_s.exp().to(edges), self.log_sigma_r.exp().to(edges)
        total = self.config.iterations
        halvings = 2.0 ** torch.arange(total - 1, -1, -1, device=edges.device, dtype=edges.dtype)
        sigmas = sigma_s * halvings * math.sqrt(3 / (4**total - 1))
        finite = edges.clamp_max(1e30)  # no path across, and yet no NaN in gradients of the widths
        distance = 1 + sigma_s / sigma_r * finite.expand(-1, 2, -1, -1).transpose(0, 1)
        weights = (-math.sqrt(2) * distance / sigmas.view(-1, 1, 1, 1, 1)).exp()
        return weights if mask is None else weights * _together(mask)

    def parameters_by_name(self) -> dict[str, float | Tensor]:
        """Current values under the configuration's names, for logs."""
        return {"sigma_s": self.log_sigma_s.exp().item(), "sigma_r": self.log_sigma_r.exp().item()}

    def config_now(self) -> DomainTransformConfig:
        """The configuration with the current widths, to 6 digits."""
        now = {name: float(f"{value:.6g}") for name, value in self.parameters_by_name().items()}
        return dataclasses.replace(self.config, **now)  # type: ignore[arg-type]


def _together(mask: Tensor) -> Tensor:
    """(2, b, h, w): whether a pixel and its left, or its upper neighbor are both inside."""
    left, up = mask.clone(), mask.clone()
    left[:, :, 1:] &= mask[:, :, :-1]
    up[:, 1:] &= mask[:, :-1]
    return torch.stack([left, up])


def _check_edges(edges: Tensor, logits: Tensor) -> None:
    b, _, h, w = logits.shape
    if edges.shape not in {(b, 1, h, w), (b, 2, h, w)} or not edges.is_floating_point():
        raise ValueError(
            f"edges: {edges.dtype} of shape {tuple(edges.shape)}, must be floating point of shape "
            f"({b}, 1 or 2, {h}, {w})"
        )
    if edges.device != logits.device:
        raise ValueError(f"edges: on {edges.device}, must be where the logits are, {logits.device}")
    low, high = torch.stack(edges.detach().aminmax()).tolist()
    if not 0 <= low <= high:  # NaN is neither
        raise ValueError(f"edges: values from {low:g} to {high:g}, must be >= 0")
