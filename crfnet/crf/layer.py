"""The dense CRF as a layer: logits and image in, log marginals out; one choice on each axis, composed."""

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.compatibility import COMPATIBILITIES, Compatibility, PottsCompatibility
from crfnet.crf.config import PRESETS, CRFConfig
from crfnet.crf.energy import Trace, energy, free_energy, trace_of
from crfnet.crf.exporting import NO_EXPORT, refuse_export
from crfnet.crf.filters import GaussianFilter
from crfnet.crf.inference import Inference
from crfnet.crf.inputs import Array, ImageRange, Numbers, accepted, as_tensor, beside
from crfnet.crf.potentials import Potential
from crfnet.crf.problem import InferenceProblem, prepare_inputs
from crfnet.errors import InputError
from crfnet.shapes import GridImage, GridLabels, GridLogits, GridMask, Values

__all__ = ["PRESETS", "CRFConfig", "DenseCRF"]

_FIELDS = {field.name for field in dataclasses.fields(CRFConfig)}


class DenseCRF(nn.Module):
    """A CRF that connects every pixel of an image with every other, solved by mean field, differentiable.

    Holds nothing but its parameters: any image size, any batch size, any device; grids of 1, 2 or 3 axes and
    sets of points. Computes in float32 under autocast and for half-precision input; float64 logits compute
    in float64.

    Krahenbuhl & Koltun 2011; as a layer, Zheng et al. 2015.

    Args:
        num_classes: number of labels l, >= 2. With 2, logits may have one channel: the logit of label 1.
        config: what to build.
        potentials: instead of the configuration's two, any number of them, by name.
        compatibility: instead of the configuration's, a module.
        inference: instead of the configuration's.
        filter: instead of the configuration's.
        memory: instead of the configuration's, in MiB.

    Raises:
        InputError: fewer than 2 classes, pruning with full weights or another compatibility than potts, or
            no memory.
    """

    def __init__(
        self,
        num_classes: int,
        config: CRFConfig = PRESETS["deeplab"],
        *,
        potentials: Mapping[str, Potential] | None = None,
        compatibility: Compatibility | None = None,
        inference: Inference | None = None,
        filter: GaussianFilter | None = None,
        memory: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"DenseCRF: num_classes is {num_classes}, must be >= 2")
        if memory is not None and memory < 1:
            raise InputError(f"DenseCRF: memory is {memory}, must be >= 1 MiB")
        self.num_classes = num_classes
        self.memory = config.memory if memory is None else memory
        self.config = config
        self.potentials = nn.ModuleDict(
            config.build_potentials(num_classes) if potentials is None else potentials
        )
        self.compatibility = compatibility or COMPATIBILITIES[config.compatibility](
            num_classes, learnable=config.learn_compatibility
        )
        self.inference: Inference = inference or config.build_inference()
        self.filter = filter or config.build_filter()
        full = any(each.weight.weights == "full" for each in self._potentials().values())
        if config.prune > 0 and (full or not isinstance(self.compatibility, PottsCompatibility)):
            raise InputError("DenseCRF: prune needs potts and weights that are not full")

    @classmethod
    def preset(cls, name: str, num_classes: int, **changes: Any) -> "DenseCRF":
        """The CRF of `PRESETS` under this name, with fields of `CRFConfig` changed by keyword."""
        if name not in PRESETS:
            raise InputError(f"DenseCRF.preset: name is {name!r}, must be one of {', '.join(PRESETS)}")
        unknown = set(changes) - {field.name for field in dataclasses.fields(CRFConfig)}
        if unknown:
            raise InputError(f"DenseCRF.preset: CRFConfig has no field {min(unknown)!r}")
        return cls(num_classes, dataclasses.replace(PRESETS[name], **changes))

    def forward(
        self,
        logits: GridLogits | Array,
        image: GridImage | Array | None = None,
        *,
        mask: GridMask | Array | None = None,
        features: Mapping[str, Tensor | Array] | None = None,
        spacing: Tensor | Array | Numbers | None = None,
        image_range: ImageRange | None = None,
        trace: list[Tensor] | None = None,
    ) -> GridLogits:
        """Log marginals ``log Q`` after the steps of the module's mode (training or evaluation).

        With ``prune=eps`` in the configuration, gradients off and evaluation mode, labels whose probability
        softmax(logits) is below eps at every pixel of the batch are not filtered. Messages attract, so such
        a label stays below eps, and the messages that it is not given are at most ``w eps r`` for each
        kernel, r the largest row sum of the normalized kernel: 1 for ``after``.

        Arrays of numpy are taken as tensors, and what lies on another device than the logits is copied there.

        Args:
            logits: the network's scores at image size, finite; a per-pixel constant changes nothing. (b, l,
                h, w), or 1 or 3 axes instead of h, w; (b, l, n) without an image is a set of points.
            image: 0..255, not normalized, of the same axes as the logits; uint8 or float, any number of
                channels. None where no kernel looks at it.
            mask: False for pixels that neither send nor receive messages (padding); they keep their unary,
                and what image and features hold there does not matter as long as it is finite.
            features: (b, d, n) or (b, d, h, w) for each `FeaturePotential` that names them.
            spacing: distance between neighbors along each axis, slowest axis first, of all images (axes,)
                or of each (b, axes), or one number for every axis; bandwidths over positions are then in
                these units. None for pixels.
            image_range: lowest and highest value of an image on another scale than 0..255, such as (-1000,
                1000) for Hounsfield units or (-3, 3) for z-scores: laid on 0..255, values beyond cut off.
            trace: a list to which the marginals of every step are appended, Q^0 = softmax(logits) first.

        Returns:
            Normalized log probabilities in nats, float32 (float64 for float64 logits): good for argmax and
            for any loss that takes logits. For one-channel logits the logit of label 1, log Q(1) - log Q(0).

        Raises:
            ValueError: shapes, dtypes or devices do not fit, values are not finite, the image is clearly not
                0..255, a mask is empty, or the image asks for a gradient that the filter does not have.
        """
        refuse_export()
        solve = self._solve
        if torch.compiler.is_compiling():  # one graph break instead of one at every sort and search
            solve = torch.compiler.disable(solve)
        options = {"mask": mask, "features": features, "spacing": spacing, "image_range": image_range}
        return solve(logits, image, trace, **options)

    def marginals(
        self, logits: GridLogits | Array, image: GridImage | Array | None = None, **options: Any
    ) -> Float[Tensor, "b l *grid"]:
        """Probabilities Q, summing to 1 over labels (the one of label 1 for one-channel logits).

        Arguments and errors as of `forward`.
        """
        log_q = self(logits, image, **options)
        return log_q.sigmoid() if self._binary(logits) else log_q.exp()  # type: ignore[no-any-return]

    def map(
        self, logits: GridLogits | Array, image: GridImage | Array | None = None, **options: Any
    ) -> GridLabels:
        """The label of highest marginal at every pixel; arguments and errors as of `forward`."""
        log_q = self(logits, image, **options)
        return (log_q[:, 0] > 0).long() if self._binary(logits) else log_q.argmax(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def trace(
        self,
        logits: GridLogits | Array,
        image: GridImage | Array | None = None,
        *,
        keep_marginals: bool = False,
        **options: Any,
    ) -> Trace:
        """How the inference goes: free energy and largest change of every step. Arguments as of `forward`."""
        steps: list[Tensor] = []
        self(logits, image, trace=steps, **options)
        with self._in_full(logits):
            problem = self.problem(logits, image, **options)
            q = [step.flatten(2) for step in steps]
            penalty = problem.penalty(include_constant=True)
            return trace_of(q, problem.unary, penalty, problem.scene.mask, keep_marginals=keep_marginals)

    def free_energy(
        self,
        marginals: Float[Tensor, "b l *grid"] | Array,
        logits: GridLogits | Array,
        image: GridImage | Array | None = None,
        **options: Any,
    ) -> Float[Tensor, " b"]:
        """``sum Q log Q - sum U Q + 1/2 sum Q . mu(K~ Q)`` of each image, in nats, up to log Z.

        See `crfnet.crf.energy.free_energy`. Other arguments and errors as of `forward`.
        """
        with self._in_full(logits):
            problem = self.problem(logits, image, **options)
            q = as_tensor("marginals", marginals).flatten(2).to(problem.unary)
            if self._binary(logits):
                q = torch.cat([1 - q, q], dim=1)
            return free_energy(q, problem.unary, problem.penalty(include_constant=True), problem.scene.mask)

    def energy(
        self,
        labels: GridLabels | Array,
        logits: GridLogits | Array,
        image: GridImage | Array | None = None,
        **options: Any,
    ) -> Float[Tensor, " b"]:
        """Gibbs energy E(x) of a labeling, in nats; see `crfnet.crf.energy.energy`."""
        with self._in_full(logits):
            problem = self.problem(logits, image, **options)
            indices = beside("labels", labels, problem.unary).flatten(1)
            return energy(indices, problem.unary, problem.penalty(include_constant=True), problem.scene.mask)

    def problem(
        self,
        logits: GridLogits | Array,
        image: GridImage | Array | None = None,
        **options: Any,
    ) -> InferenceProblem:
        """What `forward` solves, before any kernel is built; arguments and errors as of `forward`."""
        logits, image, options = accepted(logits, image, options, self)
        weight = self.config.unary_weight
        scene, unary = prepare_inputs(logits, image, self.num_classes, weight, **options)
        logarithms = self.config.first_step == "log_softmax"
        return InferenceProblem(
            scene,
            unary,
            potentials=list(self._potentials().values()),
            compatibility=self.compatibility,
            filter=self.filter,
            normalization=self.config.normalization,
            memory=self.memory,
            first_values=(unary / weight).log_softmax(1) if logarithms else None,
        )

    def _solve(
        self,
        logits: Tensor | Array,
        image: Tensor | Array | None,
        trace: list[Tensor] | None,
        **options: Any,
    ) -> Tensor:
        logits, image, options = accepted(logits, image, options, self)
        mask: Tensor | None = options["mask"]
        keep = nullcontext() if torch.is_grad_enabled() else retain_freed_memory(logits.device)
        iterations = self.config.train_iterations if self.training else self.config.iterations
        prune = 0.0 if self.training or torch.is_grad_enabled() else self.config.prune
        steps: list[Values] | None = None if trace is None else []
        with torch.autocast(logits.device.type, enabled=False), keep:
            problem = self.problem(logits, image, **options)
            log_q = problem.solve(self.inference, iterations, prune=prune, steps=steps)
        if mask is not None:
            log_q = torch.where(mask.flatten(1).unsqueeze(1), log_q, problem.unary.log_softmax(1))
        if trace is not None and steps is not None:
            trace.extend(q.reshape(len(q), -1, *logits.shape[2:]) for q in steps)
        if self._binary(logits):
            log_q = log_q[:, 1:] - log_q[:, :1]
        return log_q.reshape(logits.shape)

    def __prepare_scriptable__(self) -> "DenseCRF":
        """Asked by ``torch.jit.script``, which fails with a page of source code otherwise."""
        raise InputError(NO_EXPORT)

    @staticmethod
    def _in_full(logits: Tensor | Array) -> torch.autocast:
        """Within, autocast does not lower the precision."""
        kind = logits.device.type if isinstance(logits, Tensor) else "cpu"
        return torch.autocast(kind, enabled=False)

    def _binary(self, logits: Tensor | Array) -> bool:
        return self.num_classes == 2 and np.shape(logits)[1] == 1

    def parameters_by_name(self) -> dict[str, float | Tensor]:
        """Current values under the configuration's names and in its units (w1, theta_alpha, ...), for logs.

        Numbers as float; per-class and full weights and the penalty matrix mu as detached CPU tensors.
        A name that the configuration lacks, or that is taken, comes as ``potential.name``.
        """
        named: dict[str, Tensor] = {}
        for name, potential in self._potentials().items():
            for key, value in potential.parameters_by_name().items():
                named[key if key in _FIELDS - named.keys() else f"{name}.{key}"] = value
        if list(self.compatibility.parameters()):
            named["mu"] = self.compatibility.matrix()
        return {
            name: value.item() if value.ndim == 0 else value.detach().cpu() for name, value in named.items()
        }

    def config_now(self) -> CRFConfig:
        """The configuration with the current weights and widths, to 6 digits.

        A configuration holds one number per weight: the mean of per-class weights, the mean of the diagonal
        of full ones. Those, and a learned compatibility matrix, are kept whole only by ``state_dict``.
        """
        current = {
            name: float(f"{_one_number(value):.6g}")
            for name, value in self.parameters_by_name().items()
            if name in _FIELDS
        }
        return dataclasses.replace(self.config, **current)  # type: ignore[arg-type]

    def _potentials(self) -> dict[str, Potential]:
        return dict(self.potentials.items())  # type: ignore[arg-type]


def _one_number(value: float | Tensor) -> float:
    if isinstance(value, Tensor):
        return float(value.diagonal().mean() if value.ndim == 2 else value.mean())
    return value
