"""Where it computes: by argument, by environment variable, or a GPU where there is one."""

import numpy as np
import pytest
import torch

from crfnet.pydensecrf import _options, image_crf
from crfnet.pydensecrf import densecrf as dcrf
from crfnet.pydensecrf._pairwise import NormalizedKernel
from tests.pydensecrf.small_problem import H, M, N, W, crf, image, numbers


def test_by_argument_by_variable_or_by_itself(monkeypatch):
    monkeypatch.delenv("CRFNET_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert _options.select_device(None) == cuda
    assert _options.select_device("auto") == cuda
    assert _options.select_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("CRFNET_DEVICE", "cpu")
    assert _options.select_device(None) == cpu
    assert _options.select_device(cuda) == cuda
    assert crf()._solver.device == dcrf.DenseCRF(4, 2)._solver.device == cpu
    monkeypatch.setenv("CRFNET_DEVICE", "")
    assert _options.select_device(None) == cuda
    with pytest.raises(ValueError, match="device is 'cuda:2', but torch sees 2 GPUs"):
        _options.select_device("cuda:2")


def test_a_fork_computes_on_the_cpu(monkeypatch):
    """CUDA cannot start in a process forked from one that uses it, as pools of workers are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert _options.select_device("auto") == torch.device("cpu")


def test_the_smoothness_term_is_cached_for_each_gpu(monkeypatch):
    """Which "cuda" is may change."""
    made, kernel = [], NormalizedKernel(torch.zeros(1, 2, 8), "symmetric")

    def new(*key):
        made.append(key[4])
        return kernel

    monkeypatch.setattr(image_crf, "_new_smoothness_kernel", new)
    for current in (0, 1):
        monkeypatch.setattr(torch.cuda, "current_device", lambda current=current: current)
        for device in ("cuda", "cuda:0", "cpu"):
            image_crf._smoothness_kernel(4, 2, 3.0, 3.0, torch.device(device), "symmetric")
    assert [str(each) for each in made] == ["cuda:0", "cuda:0", "cpu", "cuda:1", "cuda:0", "cpu"]


def test_what_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert _options.select_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="device is 'cuda', but torch sees 0 GPUs"):
        dcrf.DenseCRF(4, 2, device="cuda")
    with pytest.raises(ValueError, match="device is 'gpu', must be auto, cpu or cuda"):
        dcrf.DenseCRF2D(4, 2, 2, device="gpu")
    monkeypatch.setenv("CRFNET_DEVICE", "mps")
    with pytest.raises(ValueError, match="CRFNET_DEVICE is 'mps', must be auto, cpu or cuda"):
        dcrf.DenseCRF(4, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu():
    answers = []
    for device in ("cpu", "cuda"):
        one = dcrf.DenseCRF2D(W, H, M, device=device)
        one.setUnaryEnergy(numbers(M, N))
        one.addPairwiseGaussian(3, 3)
        one.addPairwiseBilateral(20, 13, image(), -4 * np.eye(M))
        q, tmp1, tmp2 = one.startInference()
        one.stepInference(q, tmp1, tmp2)
        labels = one.map(3)
        energies = one.klDivergence(q), one.unaryEnergy(labels).sum(), one.pairwiseEnergy(labels).sum()
        answers.append([np.array(one.inference(3)), np.array(q), labels, np.array(energies)])
    for here, there in zip(*answers, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)
