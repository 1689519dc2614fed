"""What one call of the layer solves: images and logits as they came, and the messages between pixels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crfnet.crf.checks import check_input
from crfnet.crf.compatibility import Compatibility, PottsCompatibility
from crfnet.crf.features import KernelInputs
from crfnet.crf.filters import GaussianFilter
from crfnet.crf.filters.rows import multiplies_in_full
from crfnet.crf.inference import Inference, MeanField, label_by_label
from crfnet.crf.inference.label_by_label import GridKernel, LatticeKernel
from crfnet.crf.inputs import ImageRange, mapped
from crfnet.crf.message_passing import Term, message_passing
from crfnet.crf.normalization import normalized
from crfnet.crf.potentials import Potential, SpatialPotential
from crfnet.crf.pruning import Pruning
from crfnet.crf.reduced_messages import GROUP, ReducedMessages
from crfnet.kernels import compiled
from crfnet.shapes import Values

__all__ = ["InferenceProblem", "prepare_inputs"]


def prepare_inputs(
    logits: Tensor,
    image: Tensor | None,
    num_classes: int,
    unary_weight: float = 1.0,
    *,
    mask: Tensor | None = None,
    features: Mapping[str, Tensor] | None = None,
    spacing: Tensor | None = None,
    image_range: ImageRange | None = None,
) -> tuple[KernelInputs, Values]:
    """What came, checked: the scene, and the unary (b, l, n) in the precision to compute in.

    Arguments and errors as of `DenseCRF`; one channel of logits becomes two.
    """
    features = features or {}
    check_input(
        logits,
        image,
        num_classes,
        features=features,
        mask=mask,
        spacing=spacing,
        image_range=image_range,
    )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    unary = logits.to(dtype).flatten(2)
    if unary_weight != 1:
        unary = unary * unary_weight
    if unary.shape[1] < num_classes:
        unary = torch.cat([torch.zeros_like(unary), unary], dim=1)
    points = image is None and logits.ndim == 3
    scene = KernelInputs(
        image=None if image is None else mapped(image.to(dtype), image_range),
        grid=None if points else tuple(logits.shape[2:]),
        features={name: given.to(dtype).flatten(2) for name, given in features.items()},
        mask=None if mask is None else mask.flatten(1),
        spacing=None if spacing is None else spacing.to(logits.device, dtype),
        batch=len(logits),
    )
    return scene, unary


@dataclass(frozen=True)
class InferenceProblem:
    """The marginals to find: a CRF on given images.

    Attributes:
        scene: what its kernels see of the images.
        unary: logits; Q has their batch, pixels and precision.
        potentials: none or more.
        compatibility: what unequal labels cost.
        filter: how the bilateral kernel is applied.
        normalization: of each kernel matrix.
        memory: see `labels_at_once`.
        first_values: what the first step filters in the place of marginals; None for ``softmax(unary)``.
    """

    scene: KernelInputs
    unary: Values
    potentials: Sequence[Potential]
    compatibility: Compatibility
    filter: GaussianFilter
    normalization: str
    memory: int | None = None
    first_values: Values | None = None

    def solve(
        self, inference: Inference, iterations: int, *, prune: float = 0.0, steps: list[Values] | None = None
    ) -> Values:
        """Log marginals after that many steps.

        Args:
            inference: the scheme.
            iterations: number of steps.
            prune: labels of lower probability than this at every pixel are not filtered.
            steps: a list to which the marginals of every step are appended.
        """
        if steps is None and (kernels := self.compiled_kernels(inference)):
            assert isinstance(inference, MeanField)
            return self.run_compiled(kernels, iterations, inference.reduce)
        if self.first_values is not None and iterations > 0:
            penalty = self.penalty()
            begin = self.unary - penalty(self.first_values)
            if steps is not None:
                steps.append(self.unary.softmax(1))
            return inference.run(self.unary, penalty, iterations - 1, steps, begin=begin)
        if prune > 0:
            pruning = Pruning.below(prune, self.unary, self.scene.mask)
            if len(pruning.dropped) > 0:
                few: list[Values] | None = None if steps is None else []
                unary, penalty = pruning.reduce(self.unary), self.penalty(labels=pruning.kept)
                log_q = inference.run(unary, penalty, iterations, few)
                if steps is not None and few is not None:
                    steps.extend(pruning.expand(q.log(), self.unary).exp() for q in few)
                return pruning.expand(log_q, self.unary)
        reduce = self._reduction(inference) if steps is None else 0.0
        penalty = self.reduced_messages(reduce) if reduce > 0 else self.penalty()
        return inference.run(self.unary, penalty, iterations, steps)

    def _label_by_label(self, inference: Inference) -> bool:
        """Whether ``Q <- softmax(U + sum_m w_m K~_m Q)`` is all there is to do, and without gradients."""
        plain = type(inference) is MeanField and not inference.damping and not inference.tolerance
        potts = type(self.compatibility) is PottsCompatibility
        full = any(potential.weight.weights == "full" for potential in self.potentials)
        if torch.is_grad_enabled() or not plain or not potts or full:
            return False
        return self.first_values is None and len(self.potentials) > 0

    def _reduction(self, inference: Inference) -> float:
        """What torch's loop may leave out of the marginals; 0 for nothing: only where no compiled loop is."""
        if not self._label_by_label(inference) or self.unary.shape[1] <= GROUP:
            return 0.0
        assert isinstance(inference, MeanField)
        served = self.unary.is_cuda or (self.unary.device.type == "cpu" and not compiled(self.unary))
        # Where products lose digits (TF32), what is left out would be more than is promised.
        return inference.reduce if served and multiplies_in_full(self.unary) else 0.0

    def reduced_messages(self, reduce: float) -> ReducedMessages:
        """The penalty of Potts in few directions, for one run of steps; the operators are built here."""
        terms = [self._term(potential, None) for potential in self.potentials]
        return ReducedMessages(terms, self.unary, reduce=reduce, mask=self.scene.mask, memory=self.memory)

    def compiled_kernels(self, inference: Inference) -> list[LatticeKernel | GridKernel] | None:
        """The kernels of all potentials for `run_compiled`; None for a problem that it does not take."""
        if not self._label_by_label(inference) or self.memory is not None:
            return None
        if not label_by_label.usable(self.unary):
            return None
        kernels = [self._compiled_kernel(potential) for potential in self.potentials]
        return None if None in kernels else kernels  # type: ignore[return-value]

    def _compiled_kernel(self, potential: Potential) -> LatticeKernel | GridKernel | None:
        filter = self.filter
        if isinstance(potential, SpatialPotential) and self.scene.grid is not None:
            if potential.filter is None:
                return GridKernel(self.scene.grid, float(potential.theta_gamma), self.scene.spacing)
            filter = potential.filter
        if not filter.may_be_lattice:
            return None  # the operators will make the features
        features = potential.features(self.scene)
        if features is None or not filter.is_lattice(features.shape[2], features.shape[1], features.device):
            return None
        return LatticeKernel(features)

    def run_compiled(
        self,
        kernels: Sequence[LatticeKernel | GridKernel],
        iterations: int,
        reduce: float,
        stop: np.ndarray | None = None,
    ) -> Values:
        """All steps in one call, every label by itself; arguments as of `label_by_label.mean_field`."""
        labels = self.unary.shape[1]
        weights = [potential.weight.value.to(self.unary.dtype) for potential in self.potentials]
        by_label = any(weight.ndim == 1 for weight in weights)
        rows = [weight.expand(labels) if by_label and weight.ndim == 0 else weight for weight in weights]
        return label_by_label.mean_field(
            self.unary,
            kernels,
            torch.stack(rows).unsqueeze(0),
            iterations=iterations,
            normalization=self.normalization,
            mask=self.scene.mask,
            reduce=reduce,
            stop=stop,
        ).log_q[0]

    def penalty(
        self, *, labels: Tensor | None = None, include_constant: bool = False
    ) -> Callable[[Values], Values]:
        """``Q -> mu sum_m W_m K~_m Q`` for these images; the operators are built once, here.

        Args:
            labels: the only ones to filter; Q then holds these and one more, which gets no message.
            include_constant: with the constant per pixel that does not matter to the marginals.
        """
        terms = [self._term(potential, labels) for potential in self.potentials]
        compatibility_transform = self.compatibility.penalty if include_constant else self.compatibility

        def penalty(q: Values) -> Values:
            if not terms:
                return torch.zeros_like(q)
            if labels is None:
                return compatibility_transform(message_passing(terms, q, self.memory))
            few = compatibility_transform(message_passing(terms, q[:, :-1], self.memory))
            return torch.nn.functional.pad(few, (0, 0, 0, 1))

        return penalty

    def _term(self, potential: Potential, labels: Tensor | None) -> Term:
        """``Q -> W K~ Q`` of one potential."""
        operator = potential.operator(self.scene, self._filter())
        weight = potential.weight.of(labels).to(self.unary.dtype)
        if weight.ndim == 0:
            return Term(normalized(operator, self.unary, self.normalization, weight))
        return Term(normalized(operator, self.unary, self.normalization), weight)

    def _filter(self) -> GaussianFilter:
        """The filter, or the one that it names for features that are learned one by one."""
        given = {"image": self.scene.image, **self.scene.features}
        learned = [name for name, x in given.items() if x is not None and x.requires_grad]
        if not learned or not torch.is_grad_enabled():
            return self.filter
        filter = self.filter.for_learned_features()
        if filter is None:
            raise ValueError(
                f"{learned[0]} requires a gradient, which {type(self.filter).__name__} does not have; "
                f"pass {learned[0]}.detach() or use the filter 'exact'"
            )
        return filter
