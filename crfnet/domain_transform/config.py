"""What a domain transform is built from, as fields of a configuration file."""

import math
from dataclasses import dataclass
from typing import Literal

from crfnet.config.variants import check_choices
from crfnet.errors import require

__all__ = ["DomainTransformConfig"]


@dataclass(frozen=True)
class DomainTransformConfig:
    """Everything that a `DomainTransform` is built from; the section ``domain_transform:`` of a config file.

    Attributes:
        edges: image, the differences of its colors between neighbors, or learned, by an `EdgeNet` on features
            of the network.
        layers: for learned edges, the modules of the network that give those features, by their names in
            ``network.named_modules()``, such as backbone.layer1.
        sigma_s: width over positions, in pixels, > 0.
        sigma_r: width over edges, > 0; on the scale 0..255, summed over channels, for an image's differences.
        iterations: K, of passes along rows and columns, >= 1; the paper uses 3.
        learn_sigma: whether gradients reach sigma_s and sigma_r.

    Raises:
        InputError: a value is outside its range.
    """

    edges: Literal["image", "learned"] = "image"
    layers: tuple[str, ...] = ()
    sigma_s: float = 50.0
    sigma_r: float = 60.0
    iterations: int = 3
    learn_sigma: bool = False

    def __post_init__(self) -> None:
        check_choices(self, "domain_transform.")
        named = bool(self.layers) == (self.edges == "learned")
        require("domain_transform.layers", list(self.layers), named, "given for learned edges, and only then")
        for name in ("sigma_s", "sigma_r"):
            value = getattr(self, name)
            require(f"domain_transform.{name}", value, math.isfinite(value) and value > 0, "> 0")
        require("domain_transform.iterations", self.iterations, self.iterations >= 1, ">= 1")
