"""How long pictures take, learned from those that were solved: which size is ready in time."""

from collections.abc import Hashable

from crfnet.crf.layer import CRFConfig

__all__ = ["Pace"]

_BEGIN = 2  # what an inference does besides its steps, in steps


class Pace:
    """Seconds for each pixel and step, by what is solved and at which size.

    Times of a build and of a kept lattice are learned apart; the latest time counts.
    """

    def __init__(self) -> None:
        self._rates: dict[Hashable, dict[int, float]] = {}

    def note(self, config: CRFConfig, built: bool, factor: int, pixels: int, seconds: float) -> None:
        """Remember how long a picture took.

        Args:
            config: of the CRF.
            built: whether a lattice had to be built, or another filter's operator.
            factor: how many times smaller the solved image was.
            pixels: of the solved image.
            seconds: that it took.
        """
        self._rates.setdefault(_key(config, built), {})[factor] = seconds / _work(config, pixels)

    def predict(self, config: CRFConfig, built: bool, factor: int, pixels: int) -> float | None:
        """Seconds that a picture will take; None before any like it was solved. Arguments as of `note`."""
        rates = self._rates.get(_key(config, built)) or self._rates.get(_key(config, True))
        if rates is None:
            return None
        nearest = min(rates, key=lambda known: abs(known - factor))
        return rates[nearest] * _work(config, pixels)


def _key(config: CRFConfig, built: bool) -> Hashable:
    return type(config.filter), type(config.inference), config.prune, built


def _work(config: CRFConfig, pixels: int) -> float:
    return float(pixels ** config.build_filter().growth) * (config.iterations + _BEGIN)
