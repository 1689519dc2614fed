"""What processes do together, and that one alone does nothing of it."""

import pytest
import torch
from torch import nn

from crfnet.distributed import (
    all_gather,
    all_reduce_sum,
    broadcast,
    distributed_data_parallel,
    is_rank_zero,
    local_device,
    no_sync,
    on_all_ranks,
    on_rank_zero,
    process_group,
    rank,
    shard,
    world_size,
)
from crfnet.errors import InputError
from tests.training.processes import run


def refuse() -> None:
    raise ValueError(f"said by {rank()}")


def in_three() -> None:
    me = rank()
    assert world_size() == 3
    assert is_rank_zero() == (me == 0)
    assert list(shard(range(7))) == list(range(me, 7, 3))
    assert all_gather(me * 10) == on_all_ranks(lambda: me * 10) == [0, 10, 20]
    assert on_rank_zero(lambda: me + 5) == 5
    with pytest.raises(ValueError, match="said by 0"):
        on_rank_zero(refuse)
    with pytest.raises(ValueError, match=f"said by {me}"):
        on_all_ranks(refuse)

    mine = torch.tensor([me, 1])
    assert all_reduce_sum(mine).tolist() == [3, 3]
    assert mine.tolist() == [me, 1]  # as it was
    tensors = [torch.full((2,), float(me)), torch.tensor(me)]
    broadcast(tensors)
    assert [tensor.sum().item() for tensor in tensors] == [0, 0]

    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, float(me))
    replica = distributed_data_parallel(module)
    assert module.weight.tolist() == [[0, 0]]
    given = torch.tensor([[1.0, 3.0 * me]])
    with no_sync(replica, True):
        replica(given).sum().backward()
    assert module.weight.grad.tolist() == [[1, 3 * me]]
    with no_sync(replica, False):
        replica(given).sum().backward()
    assert module.weight.grad.tolist() == [[2, 6]]  # the mean of all, with what was there before


def test_three_processes(tmp_path):
    run(3, tmp_path, in_three)


def test_one_alone(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with process_group():
        assert (rank(), world_size(), is_rank_zero()) == (0, 1, True)
        assert all_gather("a") == ["a"]
        tensor = torch.ones(2)
        assert all_reduce_sum(tensor) is tensor
        module = nn.Linear(1, 1)
        assert distributed_data_parallel(module) is module
        assert shard("abc") == "abc"
        with pytest.raises(ValueError, match="said by 0"):
            on_rank_zero(refuse)


def test_a_gpu_that_is_not_there_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="must be auto or cpu: torch finds no GPU"):
        local_device("cuda")
    assert local_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == torch.device("cuda", 1)
