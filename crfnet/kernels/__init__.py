"""Compute kernels, without autograd: Triton's for a GPU, numba's for a CPU; here is which ones take a tensor.

`usable` says whether those for a GPU take a tensor, `compiled` whether those for a CPU do. Each file imports
triton or numba: import it where it is used, once the answer was yes.
"""

import functools
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["MODES", "compiled", "hidden", "usable", "using"]

MODES = ("auto", "on", "off")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_OLDEST = (8, 0)  # compute capability: Ampere, the first with TF32, which the exact kernel splits floats into

_LOG = logging.getLogger(__name__)

_modes = [["auto"]]  # of the process, the last one counts: backward passes run in threads of their own
_lock = threading.Lock()


def usable(x: Tensor) -> bool:
    """Whether the kernels take this tensor.

    They do where triton can be imported and can launch them (it compiles that in C, once), in float32,
    bfloat16 and float16, on an NVIDIA GPU of compute capability 8.0 or later. A CPU tensor only with the mode
    "on", in Triton's interpreter (TRITON_INTERPRET=1 in the environment before triton is imported), which is
    for tests.
    """
    mode = _modes[-1][0]
    if mode == "off" or x.dtype not in _DTYPES or not _has_triton():
        return False
    if x.is_cuda:
        return _capable(x.get_device()) and (mode == "on" or _starts())
    return mode == "on" and x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"


def compiled(x: Tensor) -> bool:
    """Whether the kernels for a CPU take this tensor: float32 or float64, on a CPU, where numba is.

    Not with the mode "off", and not what those for a GPU take in Triton's interpreter.
    """
    mode = _modes[-1][0]
    if mode == "off" or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    return not (mode == "on" and usable(x)) and _has_numba()


def hidden() -> bool:
    """Whether the mode is "off"."""
    return _modes[-1][0] == "off"


@contextmanager
def using(mode: str) -> Iterator[None]:
    """Inside, in all threads: "off" no kernel at all, "auto" those on a GPU, "on" also in the interpreter.

    Raises:
        ValueError: ``mode`` is none of `MODES`.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; allowed are {', '.join(MODES)}")
    mine = [mode]  # an object of its own: threads may leave in another order than they came
    with _lock:
        _modes.append(mine)
    try:
        yield
    finally:
        with _lock:
            _modes[:] = [each for each in _modes if each is not mine]


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _starts() -> bool:
    """Whether triton can launch a kernel: where no C compiler or no Python header is, it cannot."""
    try:
        from triton.runtime import driver

        _ = driver.active.utils  # compiled at its first use
    except Exception as error:
        _LOG.warning("the kernels for a GPU do not start (%s): torch computes instead", error)
        return False
    return True


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _capable(device: int) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= _OLDEST
