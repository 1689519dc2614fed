"""SGD with DeepLab's learning-rate multipliers, a group of its own for the CRF, and the schedules."""

from typing import Any

from torch import nn
from torch.optim import SGD

from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig

__all__ = ["build_optimizer", "learning_rate_factor", "poly_factor", "set_learning_rates", "step_factor"]


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Return the factor of every learning rate at update ``step`` = 0, 1, ..., by the config's schedule."""
    if config.schedule == "step":
        return step_factor(step, config.step_size, config.gamma)
    return poly_factor(step, config.iterations, config.power)


def poly_factor(step: int, iterations: int, power: float) -> float:
    """Return ``(1 - step / iterations)^power``, the poly schedule's factor at update ``step`` = 0, 1, ...

    Chen et al., DeepLab v2, section 4.1.2 (power 0.9).
    """
    return float((1 - step / iterations) ** power)


def step_factor(step: int, step_size: int, gamma: float) -> float:
    """Return ``gamma^floor(step / step_size)``, the step schedule's factor.

    Chen et al., DeepLab v1, section 5 (0.1 every 2000 iterations).
    """
    return float(gamma ** (step // step_size))


def build_optimizer(model: Segmenter, config: TrainConfig) -> SGD:
    """Build SGD over all trainable parameters of the network and of its CRF.

    | group | learning rate | weight decay |
    | --- | --- | --- |
    | backbone_weight | lr | weight_decay |
    | backbone_bias | lr * bias_lr | 0 |
    | head_weight | lr * head_lr | weight_decay |
    | head_bias | lr * head_lr * bias_lr | 0 |
    | crf | crf_lr | 0 |

    With head_lr = 10 and bias_lr = 2 the first four are those of the released DeepLab v2 solvers. Decay would
    pull the CRF's weights and log-widths toward values that mean nothing, so it has none. A network without
    ``parameter_groups()`` is all backbone. Empty groups are left out.

    Raises:
        ValueError: nothing is trainable, or ``parameter_groups()`` leaves out or repeats a trainable
            parameter or has an unknown group.
    """
    head_lr = config.lr * config.head_lr
    lr_and_decay = {
        "backbone_weight": (config.lr, config.weight_decay),
        "backbone_bias": (config.lr * config.bias_lr, 0.0),
        "head_weight": (head_lr, config.weight_decay),
        "head_bias": (head_lr * config.bias_lr, 0.0),
        "crf": (config.crf_lr, 0.0),
    }
    members = _network_groups(model.network)
    if unknown := members.keys() - lr_and_decay.keys():
        names, allowed = ", ".join(sorted(unknown)), ", ".join(lr_and_decay)
        raise ValueError(f"parameter_groups: unknown {names}, must be one of {allowed}")
    if model.crf is not None:
        members["crf"] = [parameter for parameter in model.crf.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"name": name, "params": members[name], "lr": base, "base_lr": base, "weight_decay": decay}
        for name, (base, decay) in lr_and_decay.items()
        if members.get(name)
    ]
    if not groups:
        raise ValueError("model: no parameter is trainable")
    return SGD(groups, lr=config.lr, momentum=config.momentum)


def set_learning_rates(optimizer: SGD, factor: float) -> None:
    """Set every group's learning rate, the CRF's too, to ``factor`` times its initial one."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _network_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not hasattr(network, "parameter_groups"):
        biases = [parameter for name, parameter in trainable.items() if name.endswith("bias")]
        weights = [parameter for name, parameter in trainable.items() if not name.endswith("bias")]
        return {"backbone_weight": weights, "backbone_bias": biases}
    groups = {
        name: [parameter for parameter in parameters if parameter.requires_grad]
        for name, parameters in network.parameter_groups().items()  # type: ignore[operator]
    }
    grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
    for name, parameter in trainable.items():
        if grouped.count(id(parameter)) != 1:
            count = grouped.count(id(parameter))
            raise ValueError(f"parameter_groups: {name} is in {count} groups, must be in exactly 1")
    return groups
