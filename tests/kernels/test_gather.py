"""Weighted gather-sums against embedding_bag."""

import pytest
import torch
import torch.nn.functional as F

from crfnet.kernels.gpu import gather
from tests.tolerances import assert_as_good, assert_close

pytestmark = pytest.mark.usefixtures("kernels_on")
LOW = (torch.bfloat16, torch.float16)
# Empty rows at both ends and in between; stretches of 64 aligned and not, and rows of several of them.
LENGTHS = {
    "mixed": (0, 1, 2, 0, 61, 64, 65, 127, 3, 5, 0, 500, 128, 7, 0),
    "long": (5, 4400, 0, 3),
    "first": (64, 1),
    "short": (1,) * 13,
    "chunk": (64,),
    "nothing": (0, 0, 0),
    "no rows": (),
}


def problem(lengths, channels, device, dtype=torch.float32, index=torch.int32):
    offsets = F.pad(torch.tensor(lengths, dtype=torch.int64).cumsum(0), (1, 0)).to(index)
    entries = int(offsets[-1])
    table = torch.randn(37, channels).to(dtype)
    indices, weights = torch.randint(0, 37, (entries,), dtype=index), torch.rand(entries).to(dtype)
    return [x.to(device) for x in (table, indices, offsets, weights)]


def plain(table, indices, offsets, weights):
    return F.embedding_bag(
        indices,
        table,
        offsets,
        mode="sum",
        per_sample_weights=weights.to(table.dtype),
        include_last_offset=True,
    )


def exactly(table, indices, offsets, weights):
    return plain(table.double(), indices.long(), offsets.long(), weights.double())


@pytest.mark.parametrize("channels", [1, 3, 21, 33, 150])
def test_any_number_of_channels(channels, device):
    args = problem(LENGTHS["mixed"], channels, device)
    assert_close(gather.gather_sum(*args), exactly(*args), "gather", torch.float32)


@pytest.mark.parametrize("name", list(LENGTHS))
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_any_lengths(name, index, device):
    args = problem(LENGTHS[name], 5, device, index=index)
    out = gather.gather_sum(*args)
    expected = exactly(*args) if LENGTHS[name] else torch.zeros(0, 5)
    assert_close(out, expected.to(device), "gather", torch.float32)


@pytest.mark.parametrize("dtype", LOW)
def test_low_precision_tables(dtype, device):
    args = problem(LENGTHS["mixed"], 21, device, dtype)
    assert_as_good(gather.gather_sum(*args), plain(*args), exactly(*args))
    table, weights = args[0], args[3].float()  # more exact weights
    assert_as_good(gather.gather_sum(*args[:3], weights), plain(*args), exactly(*args))
    indices = args[1][:60].view(20, 3)
    expected = (args[3][:60].double().view(20, 3, 1) * table.double()[indices.long()]).sum(1)
    rows = gather.gather_rows(table, indices, args[3][:60].view(20, 3))
    assert_as_good(rows, (args[3][:60].view(20, 3, 1) * table[indices.long()]).sum(1), expected)


def test_other_strides(device):
    table, indices, offsets, weights = problem(LENGTHS["mixed"], 4, device)
    args = table.t().contiguous().t(), *(x.repeat_interleave(2)[::2] for x in (indices, offsets, weights))
    assert_close(gather.gather_sum(*args), exactly(*args), "gather", torch.float32)


@pytest.mark.parametrize("channels", [1, 3, 21, 33, 150])
@pytest.mark.parametrize("entries", [1, 3, 6, 17])
def test_rows_of_equal_length(channels, entries, device):
    rows = 41 if entries == 3 else 5
    table, indices = torch.randn(37, channels), torch.randint(0, 37, (rows, entries), dtype=torch.int32)
    of_rows = torch.rand(rows, entries)
    for weights in (of_rows, torch.rand(entries, rows).t(), torch.rand(entries), of_rows[0].double()):
        out = gather.gather_rows(table.to(device), indices.to(device), weights.to(device))
        expected = (weights.double().unsqueeze(-1) * table.double()[indices.long()]).sum(1)
        assert_close(out.cpu(), expected, "gather", torch.float32)


def test_types_that_are_not_taken(device):
    table, indices, offsets, weights = problem((2, 3), 4, device)
    with pytest.raises(
        ValueError, match=r"table is torch.float64; kernels take float32, bfloat16 and float16"
    ):
        gather.gather_sum(table.double(), indices, offsets, weights)
    with pytest.raises(ValueError, match=r"table is torch.int32"):
        gather.gather_rows(table.int(), indices.view(-1, 1), weights.view(-1, 1))
