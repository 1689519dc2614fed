"""Potts: two different labels cost 1, equal labels nothing."""

from crfnet.crf.compatibility.contract import Compatibility
from crfnet.shapes import Values

__all__ = ["PottsCompatibility"]


class PottsCompatibility(Compatibility):
    """``penalty = -messages``: the Potts penalty ``mu = 1 - I`` up to a constant per pixel.

    ``(1 - I) m = sum_l' m_l' - m``, and the sum is the same for every label of a pixel, so the softmax does
    not see it. Nothing to learn: how much unequal labels cost is the kernel's weight.

    Krahenbuhl & Koltun 2011, section 2.
    """

    def forward(self, messages: Values) -> Values:
        """``mu @ messages`` up to a per-pixel constant; see `Compatibility.forward`."""
        return -messages
