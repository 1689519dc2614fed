import pytest
import torch

from crfnet import kernels


@pytest.fixture
def device():
    """A GPU where there is one; else the CPU, in Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
