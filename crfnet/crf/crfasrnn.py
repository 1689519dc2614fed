"""Trained CRF-as-RNN layers of others (PyTorch port, Keras, Caffe) as a `DenseCRF`, and back.

All three filter the marginals, divide by row sums, weigh with a matrix per kernel and transform with the
compatibility matrix C; they differ in the sign of the last step (Zheng et al. 2015; sadeepj/crfasrnn_pytorch,
sadeepj/crfasrnn_keras, torrvision/crfasrnn):

=========== ============================================ ====================
convention  update of the logits                         our mu
=========== ============================================ ====================
``pytorch`` ``U + C (W_s K~_s Q + W_b K~_b Q)``          ``-C``
``keras``   ``U - C (W_s K~_s Q + W_b K~_b Q)``          ``C``
``caffe``   as Keras, blobs of shape (1, 1, l, l)        ``C``
=========== ============================================ ====================
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy.typing as npt
import torch
from torch import Tensor, nn

from crfnet.crf.compatibility import MatrixCompatibility
from crfnet.crf.layer import PRESETS, CRFConfig, DenseCRF
from crfnet.crf.potentials import BilateralPotential, SpatialPotential
from crfnet.errors import InputError

__all__ = ["NAMES", "Convention", "from_crfasrnn", "to_crfasrnn"]

Convention = Literal["pytorch", "keras", "caffe"]
NAMES = (
    "spatial_ker_weights",
    "bilateral_ker_weights",
    "compatibility_matrix",
)  #: their names, in the order of Caffe's blobs


def from_crfasrnn(
    state: Mapping[str, Tensor | npt.NDArray[Any]],
    convention: Convention = "pytorch",
    config: CRFConfig = PRESETS["crfasrnn"],
) -> DenseCRF:
    """A CRF with the three matrices of a trained CRF-as-RNN layer.

    Their bandwidths are not in their weights: they are arguments of their layer, and here ``config``'s
    (the preset has those of the release: 160, 3, 3). Number of steps, filter and what is learned come from
    ``config``, too; of its w1 and w2 only counts that they are not 0.

    Args:
        state: the matrices by the names `NAMES`; other entries are ignored, and a path in front
            (``crfrnn.``, ``crfrnn/``) or a Keras ``:0`` behind a name is accepted. Tensors or arrays of
            shape (l, l), with any number of axes of 1 in front; of Caffe's, ``dict(zip(NAMES, blobs))``.
        convention: whose layer it was, which decides the sign.
        config: everything else; full weights, a matrix compatibility, normalization ``after``, two kernels.

    Returns:
        In training mode, as any new module.

    Raises:
        InputError: a name is missing or there twice, a shape is not (l, l), a number is not finite, the
            convention is unknown, or ``config`` has another structure.
    """
    sign = _sign(convention, "from_crfasrnn")
    wanted = {"weights": "full", "compatibility": "matrix", "normalization": "after"}
    for field, value in wanted.items():
        if getattr(config, field) != value:
            raise InputError(
                f"from_crfasrnn: config.{field} is {getattr(config, field)!r}, must be {value!r}"
            )
    spatial, bilateral, compatibility = (_matrix(state, name) for name in NAMES)
    classes = len(compatibility)
    for name, matrix in zip(NAMES, (spatial, bilateral), strict=False):
        if len(matrix) != classes:
            raise InputError(
                f"from_crfasrnn: {name} is of {len(matrix)} classes, compatibility_matrix of {classes}"
            )
    crf = DenseCRF(classes, config)
    parameters = _parameters(crf, "from_crfasrnn")
    with torch.no_grad():
        for parameter, matrix in zip(parameters, (spatial, bilateral, sign * compatibility), strict=True):
            parameter.copy_(matrix)
    return crf


def to_crfasrnn(crf: DenseCRF, convention: Convention = "pytorch") -> dict[str, Tensor]:
    """The three matrices of a CRF under CRF-as-RNN's names and with its sign, as new tensors on the CPU.

    What `from_crfasrnn` would read back, exactly; (1, 1, l, l) for Caffe, (l, l) otherwise. Bandwidths and
    steps are no part of it: give them to their layer by hand.

    Raises:
        InputError: the convention is unknown, or the CRF is not one bilateral and one spatial kernel with
            full weights, a matrix compatibility and normalization ``after``.
    """
    sign = _sign(convention, "to_crfasrnn")
    spatial, bilateral, mu = (p.detach().cpu().clone() for p in _parameters(crf, "to_crfasrnn"))
    matrices = [spatial, bilateral, sign * mu]
    if convention == "caffe":
        matrices = [matrix[None, None] for matrix in matrices]
    return dict(zip(NAMES, matrices, strict=True))


def _sign(convention: str, caller: str) -> int:
    """Of our mu against their C, and of their C against our mu."""
    if convention not in get_args(Convention):
        raise InputError(
            f"{caller}: convention is {convention!r}, must be one of {', '.join(get_args(Convention))}"
        )
    return -1 if convention == "pytorch" else 1


def _matrix(state: Mapping[str, Tensor | npt.NDArray[Any]], name: str) -> Tensor:
    """The matrix of this name, whatever path leads to it, without axes of 1 in front."""
    found = [key for key in state if key.replace("/", ".").removesuffix(":0").split(".")[-1] == name]
    if len(found) != 1:
        came = (
            f"{len(found)} times ({', '.join(found)})" if found else f"not among {', '.join(state) or 'none'}"
        )
        raise InputError(f"from_crfasrnn: {name} is {came}, must be there once")
    matrix = torch.as_tensor(state[found[0]]).detach()
    shape = tuple(matrix.shape)
    while matrix.ndim > 2 and matrix.shape[0] == 1:
        matrix = matrix[0]
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(f"from_crfasrnn: {name} has shape {shape}, must be (l, l) with l >= 2 classes")
    if not matrix.isfinite().all():
        raise InputError(f"from_crfasrnn: {name} holds NaN or infinity, must be finite")
    return matrix


def _parameters(crf: DenseCRF, caller: str) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """W of the spatial kernel, W of the bilateral kernel, mu; refuses a CRF of another structure."""
    potentials = dict(crf.potentials.items())
    spatial, bilateral, compatibility = (
        potentials.get("spatial"),
        potentials.get("bilateral"),
        crf.compatibility,
    )
    if (
        isinstance(spatial, SpatialPotential)
        and isinstance(bilateral, BilateralPotential)
        and isinstance(compatibility, MatrixCompatibility)
        and len(potentials) == 2
        and spatial.weight.weights == bilateral.weight.weights == "full"
        and crf.config.normalization == "after"
    ):
        return spatial.weight.raw, bilateral.weight.raw, compatibility.mu
    raise InputError(
        f"{caller}: a CRF of potentials {', '.join(potentials) or 'none'}, weights {crf.config.weights!r}, "
        f"{type(compatibility).__name__}, normalization {crf.config.normalization!r}; must be one bilateral "
        "and one spatial kernel with weights 'full', compatibility 'matrix', normalization 'after'"
    )
