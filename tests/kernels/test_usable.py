"""Which tensors the kernels are asked for, and that nothing needs triton."""

import subprocess
import sys

import pytest
import torch

from crfnet import kernels
from crfnet.crf.filters import ExactFilter
from crfnet.crf.filters.exact import filter as exact_module
from tests.kernels.fake_gpu import fake_gpu

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def test_cpu_tensors_take_the_torch_path_unless_asked(monkeypatch):
    tensors = [torch.zeros(2, dtype=dtype) for dtype in DTYPES]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for mode, expected in (("auto", False), ("on", True), ("off", False)):
        with kernels.using(mode):
            assert [kernels.usable(x) for x in tensors] == [expected] * 3
    assert not kernels.usable(tensors[0])
    monkeypatch.delenv("TRITON_INTERPRET")
    with kernels.using("on"):
        assert not kernels.usable(tensors[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_tensors_take_the_kernels():
    assert all(kernels.usable(torch.zeros(2, dtype=dtype, device="cuda")) for dtype in DTYPES)
    with kernels.using("off"):
        assert not kernels.usable(torch.zeros(2, device="cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there a GPU's driver starts")
def test_where_triton_cannot_launch_torch_computes(monkeypatch, caplog):
    """As without a C compiler, with which triton makes what launches its kernels."""
    kernels._starts.cache_clear()
    assert not kernels._starts()
    assert "the kernels for a GPU do not start" in caplog.text
    kernels._starts.cache_clear()
    with fake_gpu(monkeypatch):
        x = torch.zeros(2, device="cuda")
        assert kernels.usable(x)
        monkeypatch.setattr(kernels, "_starts", lambda: False)
        assert not kernels.usable(x)
        with kernels.using("on"):  # who asks for them is told why there are none
            assert kernels.usable(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_other_types_take_the_torch_path(dtype, device, kernels_on):
    assert not kernels.usable(torch.zeros(2, dtype=dtype, device=device))


def test_threads_may_leave_in_another_order_than_they_came():
    first, second = kernels.using("off"), kernels.using("off")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert kernels.hidden()
    second.__exit__(None, None, None)
    assert not kernels.hidden()


def test_the_mode_before_comes_back():
    with kernels.using("off"), pytest.raises(KeyError), kernels.using("on"):
        raise KeyError
    with pytest.raises(ValueError, match="mode is 'yes'; allowed are auto, on, off"), kernels.using("yes"):
        pass


def test_an_operator_keeps_to_its_path(monkeypatch, device, kernels_on):
    """Tiles for the kernels serve torch too, for another type or where they are switched off."""
    monkeypatch.setattr(exact_module, "_TILE", 16)
    features, values = torch.randn(1, 2, 30, device=device), torch.rand(1, 2, 30, device=device)
    operator = ExactFilter().operator(features)
    results = [operator(values), operator(values.double())]
    with kernels.using("off"):
        results += [operator(values), ExactFilter().operator(features)(values)]
    for result in results[1:]:
        torch.testing.assert_close(result.float(), results[0], rtol=1e-5, atol=1e-6)


def test_nothing_needs_triton():
    program = """
import sys
sys.modules["triton"] = None
import torch
from crfnet import kernels
from crfnet.crf.filters import ExactFilter, LocalFilter
with kernels.using("on"):
    assert not kernels.usable(torch.zeros(1))
    for filter in (ExactFilter(), LocalFilter(3)):
        assert filter.operator(torch.zeros(1, 2, 5), grid=(5,))(torch.ones(1, 1, 5)).min() >= 2
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
