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
