"""Axis 2: the label compatibility. A new one is a file beside this one and a line in `COMPATIBILITIES`."""

from crfnet.crf.compatibility.contract import Compatibility
from crfnet.crf.compatibility.matrix import MatrixCompatibility
from crfnet.crf.compatibility.potts import PottsCompatibility

__all__ = ["COMPATIBILITIES", "Compatibility", "MatrixCompatibility", "PottsCompatibility"]

COMPATIBILITIES: dict[str, type[Compatibility]] = {
    "potts": PottsCompatibility,
    "matrix": MatrixCompatibility,
}
