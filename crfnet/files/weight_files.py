"""Weights in files: read without running code from them; safetensors in both directions."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from crfnet.errors import InputError
from crfnet.files.error_text import one_line
from crfnet.files.identify import what_file
from crfnet.files.regular import regular
from crfnet.files.torch_files import ClaimError, load_torch_file
from crfnet.files.wrappers import Unwrapped, unwrapped, without_prefixes
from crfnet.files.writing import write_atomically

__all__ = ["read_safetensors", "read_unwrapped", "read_weights", "write_safetensors"]

#: What stands beside the weights: scores as NumPy's numbers (VainF, jfzhang95), the arguments of the command
#: line (torchvision). Rebuilding one runs no code of the file.
_BESIDE: list[Any] = [
    argparse.Namespace,
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint or a safetensors file, on the CPU; see `read_unwrapped`."""
    return read_unwrapped(path).state


def read_unwrapped(path: Path) -> Unwrapped:
    """The state dict in a checkpoint or a safetensors file, without what training scripts put around it.

    Raises:
        InputError: missing, damaged, or it holds no state dict; one line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return without_prefixes(read_safetensors(path)[0])
    try:
        content = load_torch_file(path, _BESIDE)
    except ClaimError as error:
        raise InputError(f"{path}: damaged: {one_line(error)}") from error
    except Exception as error:  # a damaged pickle raises anything at all
        raise InputError(f"{path}: {what_file(path, error)}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, must hold a state dict")
    weights = unwrapped(content)
    if not weights.state:
        raise InputError(f"{path}: holds no weights; its keys are {', '.join(map(str, list(content)[:5]))}")
    return weights


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        with safe_open(regular(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, or no safetensors file ({error})") from error


def write_safetensors(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes tensors with plain values about them as metadata, whole or not at all."""
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    write_atomically(path, save(tensors, metadata))
