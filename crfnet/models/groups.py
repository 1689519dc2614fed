"""The parameters of a network in groups, for DeepLab's learning-rate multipliers."""

from collections.abc import Iterable

from torch import nn

__all__ = ["groups_of"]


def groups_of(network: nn.Module, head: Iterable[nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters of a network, each in one group, for learning-rate multipliers.

    ``backbone_weight``, ``backbone_bias``, ``head_weight``, ``head_bias``. The scale of batch normalisation
    is a weight and its shift a bias; frozen parameters are in no group.

    Args:
        network: whose parameters they are.
        head: those of its head; all others count as backbone.
    """
    in_head = {id(parameter) for parameter in head}
    groups: dict[str, list[nn.Parameter]] = {
        f"{part}_{kind}": [] for part in ("backbone", "head") for kind in ("weight", "bias")
    }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part = "head" if id(parameter) in in_head else "backbone"
            kind = "bias" if name.endswith(".bias") else "weight"
            groups[f"{part}_{kind}"].append(parameter)
    return groups
