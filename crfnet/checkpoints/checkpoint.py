"""Checkpoints: files that are whole or not there, and that are read without running code from them."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from crfnet.checkpoints.legacy import current_settings, current_weights
from crfnet.config.nested import nested
from crfnet.config.schema import build
from crfnet.crf.layer import CRFConfig
from crfnet.domain_transform import DomainTransformConfig
from crfnet.errors import InputError, require
from crfnet.files import check_fields, one_line, write_atomically
from crfnet.files.torch_files import load_torch_file
from crfnet.segmenter import RefinementConfig, Segmenter

__all__ = [
    "REFINEMENTS",
    "Checkpoint",
    "checkpoint_crf",
    "load_model",
    "random_state",
    "read_checkpoint",
    "restore",
    "save_checkpoint",
    "set_random_state",
]


#: How the settings of a checkpoint name the fields of what stood behind the network.
REFINEMENTS: dict[str, type[RefinementConfig]] = {
    "crf.": CRFConfig,
    "domain_transform.": DomainTransformConfig,
}


class _Always(TypedDict):
    step: int  #: updates done
    seconds: float  #: spent on them, over all resumed parts
    settings: dict[str, Any]  #: what must be the same for the run to go on; plain values
    model: dict[str, Any]
    optimizer: dict[str, Any]
    random: dict[str, dict[str, Any]]  #: the generators of every process, by its number


class Checkpoint(_Always, total=False):
    """All that a training run needs to go on."""

    scaler: dict[str, Any]  #: of float16, empty otherwise
    best: float  #: highest mean IoU of a validation so far
    stale: int  #: validations since that one
    pending_validation: dict[str, float]  #: this step's metrics if training stopped before its validation


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes ``path`` whole or not at all, see `write_atomically`.

    Raises:
        OSError: the disk is full or not writable; what was at ``path`` is untouched.
    """

    def write(stream: IO[bytes]) -> None:
        try:
            torch.save(dict(checkpoint), stream)
        except RuntimeError as error:  # torch hides the disk's error behind one about its own archive
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_atomically(path, write)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at ``path``, on the CPU; only tensors and plain values are read, no code is run.

    Raises:
        InputError: missing, damaged, or not written by `save_checkpoint`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        checkpoint = load_torch_file(path)
    except Exception as error:  # a damaged pickle raises anything at all
        raise InputError(f"{path}: damaged, or no checkpoint ({one_line(error)})") from error
    if not isinstance(checkpoint, dict) or not Checkpoint.__required_keys__ <= checkpoint.keys():
        raise InputError(f"{path}: no checkpoint of a training run; it must be one that crfnet wrote")
    try:
        check_fields(checkpoint, Checkpoint)
    except ValueError as error:
        raise InputError(f"{path}: damaged: its {error}") from error
    for name in ("step", "stale", "seconds"):
        value = checkpoint.get(name, 0)
        require(f"{path}: damaged: its {name}", value, 0 <= value < math.inf, ">= 0")
    best = checkpoint.get("best", 0.0)
    require(f"{path}: damaged: its best", best, best <= 1, "a mean IoU, or -inf")
    checkpoint["model"] = current_weights(checkpoint["model"])
    checkpoint["settings"] = current_settings(checkpoint["settings"])
    return checkpoint  # type: ignore[return-value]


def restore(path: Path, checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Model and optimizer become those of ``checkpoint``, which was read from ``path``.

    Raises:
        InputError: it is of another model, or other parameters were trained.
    """
    _load(path, checkpoint["model"], model)
    fresh = optimizer.state_dict()
    try:
        _check_groups(checkpoint["optimizer"]["param_groups"], fresh["param_groups"])
        for state in checkpoint["optimizer"]["state"].values():
            if not all(value is None or _is_array(value) for value in state.values()):
                raise ValueError("its state holds what is no array of real numbers")
        optimizer.load_state_dict(checkpoint["optimizer"])
        for group, ours in zip(optimizer.param_groups, fresh["param_groups"], strict=True):
            group |= {name: value for name, value in ours.items() if name != "params"}  # the settings decide
            for parameter in group["params"]:
                _check_state(optimizer.state.get(parameter, {}), parameter)
    except Exception as error:  # ValueError, or whatever a damaged state leads to
        optimizer.load_state_dict(fresh)
        raise InputError(f"{path}: another set of parameters was trained ({one_line(error)})") from error


def _check_groups(saved: Any, fresh: Sequence[Mapping[str, Any]]) -> None:
    """Refuse groups of parameters in which a setting is none of its kind."""
    for group, ours in zip(saved, fresh, strict=True):
        for name, value in ours.items():
            if name != "params" and not _is_alike(group[name], value):
                raise ValueError(f"{name} is {group[name]!r:.60}, must be as {value!r}")


def _is_alike(value: Any, ours: Any) -> bool:
    if isinstance(ours, float):
        if type(value) is int:
            return abs(value) < 2**53
        return type(value) is float and abs(value) <= torch.finfo(torch.float32).max
    return type(value) is type(ours)


def _check_state(state: Mapping[str, Any], parameter: Tensor) -> None:
    """Refuse what an optimizer cannot have kept of a parameter: it would fail, or go on wrongly."""
    for name, value in state.items():
        if value is None:
            continue
        if not _is_array(value) or value.shape != parameter.shape or value.dtype != parameter.dtype:
            raise ValueError(f"{name} is not like its parameter of shape {list(parameter.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def load_model(model: Segmenter, path: Path, *, network_only: bool = False) -> None:
    """The weights of a checkpoint, for a warm start or for evaluation.

    Args:
        model: what they are loaded into; unchanged when they do not fit.
        path: a checkpoint of a training run.
        network_only: leave the CRF out, the file's and the model's: a CRF in ``model`` keeps its parameters.
            So joint training begins from a network that was trained alone.

    Raises:
        InputError: missing, damaged, or of another model; the message names the first differences.
    """
    state = read_checkpoint(path)["model"]
    if network_only:
        state = {name: value for name, value in state.items() if not name.startswith("crf.")}
        state |= {name: value for name, value in model.state_dict().items() if name.startswith("crf.")}
    _load(path, state, model)


def checkpoint_crf(path: Path) -> RefinementConfig | None:
    """The configuration of the CRF or domain transform trained into a checkpoint; None where there was none.

    Raises:
        InputError: missing or damaged.
    """
    settings = read_checkpoint(path)["settings"]
    for prefix, kind in REFINEMENTS.items():
        found = [name for name in settings if name.startswith(prefix)]
        own = {name.removeprefix(prefix): settings[name] for name in found}
        try:
            if own:
                return build(kind, _with_tuples(nested(own)), prefix)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: its CRF cannot be built ({one_line(error)})") from error
    return None


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global random generator of this process (torch, Python, NumPy) as plain values.

    Args:
        device: to compute on; where it is a GPU, its generator is one of them.
    """
    bits = np.random.get_state(legacy=False)  # noqa: NPY002 (a network from elsewhere may draw from it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": {**bits, "state": {**bits["state"], "key": bits["state"]["key"].tolist()}},
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """All of them become those of a `random_state`, which came from the same kind of device.

    Raises:
        InputError: it is none; some may be changed.
    """
    try:
        _set_random_state(state, device)
    except Exception as error:  # each of them has its own
        raise InputError(f"the random states are damaged ({one_line(error)})") from error


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:  # None: begun on a CPU
        torch.cuda.set_rng_state(state["cuda"], device)
    random.setstate(state["python"])
    bits = state["numpy"]
    key = np.array(bits["state"]["key"], dtype=np.uint32)
    np.random.set_state({**bits, "state": {**bits["state"], "key": key}})  # noqa: NPY002


def _load(path: Path, state: Mapping[str, Any], model: nn.Module) -> None:
    """``load_state_dict`` that looks before it changes anything, and says in one line what differs."""
    for name, value in state.items():
        if not _is_array(value):
            raise InputError(f"{path}: damaged: {name} is no array of real numbers")
        if not value.isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinity; expected finite numbers")
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differences = [
        *(f"it lacks {name}" for name in ours if name not in theirs),
        *(f"it has {name}, which the model lacks" for name in theirs if name not in ours),
        *(
            f"{name} is {list(theirs[name])} in the file and {list(shape)} in the model"
            for name, shape in ours.items()
            if theirs.get(name, shape) != shape
        ),
    ]
    if differences:
        more = f" (and {len(differences) - 3} more differences)" if len(differences) > 3 else ""
        raise InputError(f"{path}: of another model: {'; '.join(differences[:3])}{more}")
    model.load_state_dict(dict(state))


def _is_array(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout == torch.strided
    return plain and not value.is_meta and not value.is_complex()
