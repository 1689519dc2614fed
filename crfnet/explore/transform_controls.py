"""The widgets of a domain transform on the page."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bokeh.models import Slider

from crfnet.domain_transform import DomainTransformConfig
from crfnet.explore.controls import slider
from crfnet.search.grid import round_digits

__all__ = ["TRANSFORM_SLIDERS", "TransformControls"]

#: Title, smallest, largest and step of each slider: the ranges of a search with as much again around them.
TRANSFORM_SLIDERS: dict[str, tuple[str, float, float, float]] = {
    "sigma_s": ("σ_s: width over positions, pixels", 1, 200, 1),
    "sigma_r": ("σ_r: width over edges, of 3 x 0..255", 5, 1000, 5),
    "iterations": ("iterations of passes along rows and columns", 1, 6, 1),
}


class TransformControls:
    """Sliders of sigma_s, sigma_r and the number of iterations.

    Args:
        start: where they start; what they do not say stays as it is here.

    Attributes:
        sliders: by the names of `DomainTransformConfig`.
    """

    def __init__(self, start: DomainTransformConfig) -> None:
        self._start = start
        self.sliders: dict[str, Slider] = {
            name: slider(name, scale, float(getattr(start, name)))
            for name, scale in TRANSFORM_SLIDERS.items()
        }
        self.sliders["iterations"].name = "transform_iterations"  # the CRF's has that name on the page

    def on_change(self, changed: Callable[[str, object, object], None]) -> None:
        """Call bokeh's callback whenever something is set by hand."""
        for widget in self.sliders.values():
            widget.on_change("value", changed)

    def value(self) -> DomainTransformConfig:
        """What the sliders say.

        Raises:
            InputError: they say something that no domain transform takes.
        """
        values: dict[str, Any] = {
            name: round_digits(float(each.value)) for name, each in self.sliders.items()
        }
        return replace(self._start, **values | {"iterations": round(values["iterations"])})
