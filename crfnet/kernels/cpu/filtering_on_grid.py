"""The Gaussian of a pixel grid applied to values of any number of channels, and its derivative of theta.

Tasks as in `crfnet.kernels.cpu.filtering`: a group of eight channels of one image, in one thread where they
are enough.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import separable, threads
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_image, scatter_image
from crfnet.kernels.cpu.compile import entry
from crfnet.kernels.cpu.separable import convolve_group, convolve_group_alone

__all__ = ["filter_on_grid"]

_LINES = 64  # that are made at a time


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
    rows = np.empty((min(_LINES, shape[1]) * shape[2] if alone else 1, 8), values.dtype)
    all_radii = radii.reshape(1, 3)
    task = claim(counters, 0)
    while task < alone:
        image, group = task // groups, task % groups
        convolve_group_alone(
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
            0, padded, between, table, 0, False,
        )  # fmt: skip
        phase = scatter_image(counters, phase, table, out, place, pixels, few)
