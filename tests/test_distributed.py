"""What processes do together, and that one alone does nothing of it."""

import pytest
import torch
from torch import nn

from crfnet.distributed import (
    alike,
    apart,
    device,
    each,
    first,
    gathered,
    is_first,
    rank,
    ranks,
    replicated,
    share,
    summed,
    together,
)
from crfnet.errors import InputError
from tests.training.processes import run


def refuse() -> None:
    raise ValueError(f"said by {rank()}")


def in_three() -> None:
    me = rank()
    assert ranks() == 3
    assert is_first() == (me == 0)
    assert list(share(range(7))) == list(range(me, 7, 3))
    assert gathered(me * 10) == each(lambda: me * 10) == [0, 10, 20]
    assert first(lambda: me + 5) == 5
    with pytest.raises(ValueError, match="said by 0"):
        first(refuse)
    with pytest.raises(ValueError, match=f"said by {me}"):
        each(refuse)

    mine = torch.tensor([me, 1])
    assert summed(mine).tolist() == [3, 3]
    assert mine.tolist() == [me, 1]  # as it was
    tensors = [torch.full((2,), float(me)), torch.tensor(me)]
    alike(tensors)
    assert [tensor.sum().item() for tensor in tensors] == [0, 0]

    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, float(me))
    replica = replicated(module)
    assert module.weight.tolist() == [[0, 0]]
    given = torch.tensor([[1.0, 3.0 * me]])
    with apart(replica, True):
        replica(given).sum().backward()
    assert module.weight.grad.tolist() == [[1, 3 * me]]
    with apart(replica, False):
        replica(given).sum().backward()
    assert module.weight.grad.tolist() == [[2, 6]]  # the mean of all, with what was there before


def test_three_processes(tmp_path):
    run(3, tmp_path, in_three)


def test_one_alone(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with together():
        assert (rank(), ranks(), is_first()) == (0, 1, True)
        assert gathered("a") == ["a"]
        tensor = torch.ones(2)
        assert summed(tensor) is tensor
        module = nn.Linear(1, 1)
        assert replicated(module) is module
        assert share("abc") == "abc"
        with pytest.raises(ValueError, match="said by 0"):
            first(refuse)


def test_a_gpu_that_is_not_there_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device: cuda, but torch finds no GPU"):
        device("cuda")
    assert device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device("cuda") == torch.device("cuda", 1)
