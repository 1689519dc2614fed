"""Axis 2: the label compatibility. A new one is a file beside this one and a line in `COMPATIBILITIES`."""

from crfnet.crf.compatibility.contract import Compatibility
from crfnet.crf.compatibility.diagonal import DiagonalCompatibility
from crfnet.crf.compatibility.matrix import MatrixCompatibility
from crfnet.crf.compatibility.potts import PottsCompatibility
from crfnet.crf.compatibility.symmetric import SymmetricCompatibility

__all__ = [
    "COMPATIBILITIES",
    "Compatibility",
    "DiagonalCompatibility",
    "MatrixCompatibility",
    "PottsCompatibility",
    "SymmetricCompatibility",
]

COMPATIBILITIES: dict[str, type[Compatibility]] = {
    "potts": PottsCompatibility,
    "diagonal": DiagonalCompatibility,
    "symmetric": SymmetricCompatibility,
    "matrix": MatrixCompatibility,
}
