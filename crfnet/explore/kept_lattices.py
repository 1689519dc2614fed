"""The lattices of the latest widths of an image's kernels, so that a change of weights builds none."""

from collections.abc import Hashable, Sequence

from crfnet.crf.inference.label_by_label import GridKernel, LatticeKernel
from crfnet.crf.layer import CRFConfig
from crfnet.shapes import Values

__all__ = ["KeptLattices", "lattice_key"]

_POINTS = 1_500_000  # of all that are kept; a lattice takes 50 to 150 bytes a point


def lattice_key(potential: str, config: CRFConfig, factor: int) -> Hashable:
    """What decides whether a lattice has to be built.

    Args:
        potential: ``bilateral`` or ``spatial``, as `CRFConfig.build_potentials` calls it.
        config: of the CRF.
        factor: how many times smaller the solved image is.
    """
    widths = {
        "bilateral": (config.theta_alpha, config.theta_beta),
        "spatial": (config.theta_gamma,),
    }
    return potential, factor, widths[potential]


class KeptLattices:
    """Lattices by `lattice_key`, those that were used last.

    Attributes:
        built: how many were built so far.
    """

    def __init__(self) -> None:
        self.built = 0
        self._kept: dict[Hashable, LatticeKernel] = {}  # the latest last

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def ready(
        self, keys: Sequence[Hashable], kernels: Sequence[LatticeKernel | GridKernel], unary: Values
    ) -> list[LatticeKernel | GridKernel]:
        """The kernels with their lattices, built where none was kept under the key."""
        return [
            self._ready(key, kernel, unary) if isinstance(kernel, LatticeKernel) else kernel
            for key, kernel in zip(keys, kernels, strict=True)
        ]

    def _ready(self, key: Hashable, kernel: LatticeKernel, unary: Values) -> LatticeKernel:
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = kernel.built(unary)
            self.built += 1
        self._kept[key] = kept
        points = [each.features.shape[2] for each in self._kept.values()]
        while sum(points) > _POINTS and len(points) > 1:
            del self._kept[next(iter(self._kept))], points[0]
        return kept
