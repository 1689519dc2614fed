"""The Gaussian of a pixel grid applied to values of any number of channels, and its derivative of theta.

Tasks as in `crfnet.kernels.cpu.filtering`: a group of eight channels of one image, in one thread where they
are enough.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import separable, threads
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_channels, gather_image, scatter_channels, scatter_image
from crfnet.kernels.cpu.compile import entry, kernel
from crfnet.kernels.cpu.separable import PATCH, clear, convolve_group, convolve_line, convolve_patch, scale

__all__ = ["filter_on_grid"]


def filter_on_grid(
    values: np.ndarray,
    shape: np.ndarray,
    radii: np.ndarray,
    taps: np.ndarray,
    *,
    send: np.ndarray | None = None,
    receive: np.ndarray | None = None,
    count: int | None = None,
) -> np.ndarray:
    """``receive_i sum_j prod_axes taps[|p_i - p_j|] send_j v_j`` for every image and channel.

    Args:
        values: (b, l, n), C-contiguous.
        shape: int64 (3,), slowest axis first; axes that the grid lacks have one pixel.
        radii: int64 (3,), how far a pixel reaches along each axis.
        taps: (1 or b, 3, radius + 1) of the values' precision, the weight of a pixel so far away.
        send: a factor of every pixel (b, n); None for 1.
        receive: like ``send``.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    batch, labels, pixels = values.shape
    groups = -(-labels // 8)
    flat = shape[0] == 1
    shared = batch * groups % count if flat else batch * groups
    send, receive = (
        np.ones((batch, pixels), values.dtype) if factor is None else factor for factor in (send, receive)
    )
    table = np.empty((pixels if shared else 1, 8), values.dtype)
    between = np.empty((max(count, 2), pixels, 8), values.dtype)
    out = np.empty_like(values)
    threads.run(
        _through_grid, counters_for(1 + shared * (2 + separable.PHASES)), shape, radii, taps, send, receive,
        values, batch * groups - shared, table, between, out, count=count,
    )  # fmt: skip
    return out


@entry
def _through_grid(
    thread, count, counters, shape, radii, taps, send, receive, values, alone, table, between, out
):  # fmt: skip
    batch, labels, pixels = values.shape
    groups = (labels + 7) // 8
    padded = np.empty((shape[2] + 2 * radii[2], 8), values.dtype)
    rows = np.empty((min(PATCH, shape[1]) * shape[2] if alone else 1, 8), values.dtype)
    all_radii = radii.reshape(1, 3)
    task = claim(counters, 0)
    while task < alone:
        image, group = task // groups, task % groups
        _convolve_alone(
            shape, radii, taps, min(image, len(taps) - 1), send, receive, image * pixels, values,
            (image * labels + 8 * group) * pixels, min(8, labels - 8 * group), padded, between[thread], rows,
            out,
        )  # fmt: skip
        task = finish(counters, 0)
    phase = wait(counters, 0, alone)
    for task in range(alone, batch * groups):
        image, group = task // groups, task % groups
        place, few = (image * labels + 8 * group) * pixels, min(8, labels - 8 * group)
        kind = min(image, len(taps) - 1)
        phase = gather_image(counters, phase, values, place, pixels, few, table)
        phase = convolve_group(
            counters, phase, shape, all_radii, taps[kind : kind + 1], 0, send, receive, image * pixels, table,
            0, padded, between, table, 0, False, False, counters,
        )  # fmt: skip
        phase = scatter_image(counters, phase, table, out, place, pixels, few)


@kernel
def _convolve_alone(
    shape, radii, taps, kind, send, receive, factors, values, place, few, padded, between, rows, out
):  # fmt: skip
    """`convolve_group` in this thread alone, from values as they came to values as they go; 2 axes.

    Args:
        shape: int64 (3,), the first 1.
        radii: int64 (3,).
        taps: (kernels, 3, radius + 1).
        kind: which of the kernels.
        send: of every pixel, from place ``factors`` on.
        receive: like ``send``.
        factors: place of this image's factors.
        values: (b, l, n).
        place: of the first value of the group, in ``values`` and ``out``.
        few: channels of the group.
        padded: (pixels of a line + 2 radius or more, 8), of this thread, like all that follows.
        between: (pixels, 8).
        rows: (64 lines or more, 8).
        out: like ``values``.
    """
    _, height, width = shape
    clear(padded, width + 2 * radii[2])
    ready = 0
    for start in range(0, height, PATCH):  # lines that an axis has just made are still in the cache
        end = min(height, start + PATCH)
        while ready < min(height, end + radii[1]):
            first = ready * width
            gather_channels(values, place + first, height * width, few, width, padded, 8 * radii[2])
            scale(padded, 8 * radii[2], width, send, factors + first)
            convolve_line(first, width, radii[2], taps[kind, 2], send, padded, between)
            ready += 1
        for x in range(0, width, PATCH):
            convolve_patch(
                start, end, x, min(width, x + PATCH), 0, height, width, radii[1], taps[kind, 1], between, 0,
                receive, factors, rows, -8 * start * width, False, False, shape,
            )  # fmt: skip
        first, some = start * width, (end - start) * width
        scatter_channels(rows, 0, some, out, place + first, height * width, few)
