"""Weighted gather-sums: what splat, blur and slice of the lattice are. No atomics: same bits in every run."""

# A kernel's arguments are many, and have the types that its launch gives them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

import torch
import triton
import triton.language as tl
from torch import Tensor

from crfnet.kernels.gpu.launch import OPTIONS, channel_block, check_floats

__all__ = ["gather_rows", "gather_sum"]

_CHUNK = 64  # entries that are summed apart where they all belong to one row


def gather_rows(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """``out_r = sum_k weights[r, k] table[indices[r, k]]``: the same number of entries in every row.

    Args:
        table: (rows, c) float32, bfloat16 or float16; sums are float32.
        indices: (m, k), int32 or int64, rows of the table.
        weights: (m, k), or (k,), the same for all rows; any floating type, float64 is rounded.

    Returns:
        (m, c) of the table's type.

    Raises:
        ValueError: the table's type is not taken.
    """
    check_floats(table=table)
    rows, entries = indices.shape
    table, indices = table.contiguous(), indices.contiguous()
    weights = _at_most_float32(weights).expand(rows, entries)
    channels = table.shape[1]
    out = table.new_empty(rows, channels)
    block = channel_block(channels, 1, 128)
    at_once = max(1, 1024 // block)
    if out.numel():
        with torch.cuda.device_of(table):
            _gather_rows_kernel[triton.cdiv(rows, at_once), triton.cdiv(channels, block)](
                out, table, indices, weights, rows, channels, *weights.stride(),
                ENTRIES=entries, BLOCK_R=at_once, BLOCK_C=block, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out


def gather_sum(table: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """``out_r = sum over k in offsets[r] .. offsets[r + 1] of weights[k] table[indices[k]]``.

    As `torch.nn.functional.embedding_bag` (sum, per_sample_weights, include_last_offset). Rows may be empty
    or hold any number of entries: stretches of 64 entries that belong to one row are summed beforehand, in
    programs of their own, so that a row with a million entries does not wait for one program.

    Args:
        table: (rows, c) float32, bfloat16 or float16; sums are float32.
        indices: (k,), int32 or int64, rows of the table.
        offsets: (m + 1,), int32 or int64, from 0 on, nowhere falling; the last is where the last row ends.
        weights: (k,), any floating type, float64 is rounded.

    Returns:
        (m, c) of the table's type.

    Raises:
        ValueError: the table's type is not taken.
    """
    check_floats(table=table)
    table, indices, offsets = table.contiguous(), indices.contiguous(), offsets.contiguous()
    weights = _at_most_float32(weights).contiguous()
    rows, channels, chunks = len(offsets) - 1, table.shape[1], len(indices) // _CHUNK
    out = table.new_empty(rows, channels)
    if not out.numel():
        return out
    sums = table.new_empty(chunks, channels, dtype=torch.float32)
    block = channel_block(channels, 1, 128)
    at_once, blocks = max(1, 256 // block), triton.cdiv(channels, block)
    with torch.cuda.device_of(table):
        if chunks:
            _chunk_sums_kernel[triton.cdiv(chunks, 32), blocks](
                sums, table, indices, offsets, weights, chunks, rows, channels, rows.bit_length(),
                CHUNK=_CHUNK, CHUNKS=32, BLOCK_C=block, num_warps=4, **OPTIONS,
            )  # fmt: skip
        _gather_sum_kernel[triton.cdiv(rows, at_once), blocks](
            out, table, indices, offsets, weights, sums, rows, channels,
            CHUNK=_CHUNK, BLOCK_R=at_once, BLOCK_K=4, BLOCK_C=block, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out


def _at_most_float32(weights: Tensor) -> Tensor:
    return weights.float() if weights.dtype == torch.float64 else weights


@triton.jit(do_not_specialize=["rows"])
def _gather_rows_kernel(
    out_ptr, table_ptr, indices_ptr, weights_ptr, rows, channels, stride_row, stride_entry,
    ENTRIES: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = row < rows
    both = inside[:, None] & (channel < channels)[None, :]
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for k in range(ENTRIES):
        index = tl.load(indices_ptr + row * ENTRIES + k, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + row * stride_row + k * stride_entry, mask=inside, other=0)
        value = tl.load(table_ptr + index[:, None] * channels + channel[None, :], mask=both, other=0)
        total += weight.to(tl.float32)[:, None] * value.to(tl.float32)
    tl.store(out_ptr + row[:, None] * channels + channel[None, :], total, mask=both)


@triton.jit(do_not_specialize=["chunks", "rows", "steps"])
def _chunk_sums_kernel(
    sums_ptr, table_ptr, indices_ptr, offsets_ptr, weights_ptr, chunks, rows, channels, steps,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sums of entries ``CHUNK q .. CHUNK (q + 1)``, of each q where they belong to one row; no others."""
    first = tl.program_id(0).to(tl.int64) * CHUNKS
    chunk = first + tl.arange(0, CHUNKS)
    # The row of a chunk's first entry: the last one that starts no later. By bisection, all chunks at once.
    low, high = tl.zeros_like(chunk), tl.zeros_like(chunk) + rows
    for _ in range(steps):
        middle = (low + high) // 2
        starts = tl.load(offsets_ptr + middle).to(tl.int64) <= chunk * CHUNK
        low, high = tl.where(starts, middle, low), tl.where(starts, high, middle)
    end = tl.load(offsets_ptr + tl.minimum(low + 1, rows)).to(tl.int64)
    whole = ((chunk < chunks) & (end >= (chunk + 1) * CHUNK)).to(tl.int32)
    if tl.sum(whole) > 0:
        channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
        mine = (channel < channels)[None, :]
        for j in range(CHUNKS):
            if tl.sum(tl.where(chunk == first + j, whole, 0)) > 0:
                entry = (first + j) * CHUNK + tl.arange(0, CHUNK)
                index = tl.load(indices_ptr + entry).to(tl.int64)
                weight = tl.load(weights_ptr + entry).to(tl.float32)
                value = tl.load(table_ptr + index[:, None] * channels + channel[None, :], mask=mine, other=0)
                total = tl.sum(weight[:, None] * value.to(tl.float32), axis=0)
                tl.store(sums_ptr + (first + j) * channels + channel, total, mask=channel < channels)


@triton.jit(do_not_specialize=["rows"])
def _gather_sum_kernel(
    out_ptr, table_ptr, indices_ptr, offsets_ptr, weights_ptr, sums_ptr, rows, channels,
    CHUNK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    start = tl.load(offsets_ptr + row, mask=row < rows, other=0).to(tl.int64)
    end = tl.load(offsets_ptr + row + 1, mask=row < rows, other=0).to(tl.int64)
    first, last = (start + CHUNK - 1) // CHUNK, end // CHUNK  # chunks from first to last are this row's
    chunks = tl.maximum(last - first, 0)
    head = tl.where(chunks > 0, first * CHUNK - start, end - start)
    single = head + tl.where(chunks > 0, end - last * CHUNK, 0)  # entries before and after its chunks
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    mine = (channel < channels)[None, None, :]
    for done in range(0, tl.max(single), BLOCK_K):
        k = (done + tl.arange(0, BLOCK_K))[None, :]
        entry = tl.where(k < head[:, None], start[:, None] + k, last[:, None] * CHUNK + k - head[:, None])
        inside = k < single[:, None]
        index = tl.load(indices_ptr + entry, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights_ptr + entry, mask=inside, other=0).to(tl.float32)
        place = index[:, :, None] * channels + channel[None, None, :]
        value = tl.load(table_ptr + place, mask=inside[:, :, None] & mine, other=0).to(tl.float32)
        total += tl.sum(weight[:, :, None] * value, axis=1)
    for done in range(0, tl.max(chunks), BLOCK_K):
        k = (done + tl.arange(0, BLOCK_K))[None, :]
        place = (first[:, None] + k)[:, :, None] * channels + channel[None, None, :]
        inside = (k < chunks[:, None])[:, :, None]
        total += tl.sum(tl.load(sums_ptr + place, mask=inside & mine, other=0), axis=1)
    both = (row < rows)[:, None] & (channel < channels)[None, :]
    tl.store(out_ptr + row[:, None] * channels + channel[None, :], total, mask=both)
