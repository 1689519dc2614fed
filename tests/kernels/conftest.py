import os

import numpy as np
import pytest
import torch

# What cuBLAS asks for under `torch.use_deterministic_algorithms`, which all tests run with.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from crfnet import kernels


@pytest.fixture
def device():
    """A GPU where there is one; else the CPU, in Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _interpreter_rounds_to_nearest(monkeypatch):
    """As a GPU does: the interpreter cuts a float32 off where it is stored as a bfloat16."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    convert, tl = interpreter._convert_float, interpreter.tl

    def rounded(given, given_type, wanted_type, mode):
        if (given_type, wanted_type) != (tl.float32, tl.bfloat16):
            return convert(given, given_type, wanted_type, mode)
        return torch.from_numpy(np.ascontiguousarray(given)).bfloat16().view(torch.uint16).numpy()

    monkeypatch.setattr(interpreter, "_convert_float", rounded)


@pytest.fixture
def kernels_on(device):
    with kernels.using("on"):
        assert kernels.usable(torch.zeros(1, device=device))
        yield


@pytest.fixture(params=["torch", "kernels"])
def path(request):
    with kernels.using("on" if request.param == "kernels" else "off"):
        yield request.param


def recorded(monkeypatch, module):
    """The names of the module's two functions, as they are called."""
    names = []
    for name in ("filter_values", "grad_features"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, n=name, f=function: names.append(n) or f(*args))
    return names


def gradients(run, values, features, grad):
    """What ``run`` gives, and the gradients of values and features."""
    values, features = values.detach().requires_grad_(), features.detach().requires_grad_()
    out = run(values, features)
    return out, *torch.autograd.grad(out, (values, features), grad)
