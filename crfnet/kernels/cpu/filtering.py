"""The lattices of a batch applied to values of any number of channels, forward and transposed.

A task is a group of eight channels of one image, which one thread takes through splat, blur and slice alone:
no thread waits for another, and a table stays in its core's cache. Tasks that are too few for all threads are
shared by all, phase by phase.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_image, scatter_image
from crfnet.kernels.cpu.compile import entry
from crfnet.kernels.cpu.lattice import Lattice
from crfnet.kernels.cpu.splat_blur_slice import CHUNK, filter_group, filter_group_alone, phases_of

__all__ = ["Lattices", "filter_on_lattices", "lattices_of"]


class Lattices(NamedTuple):
    """The lattices of several images, of as many points each, one after another."""

    corners: np.ndarray  #: int32, flat, of all lattices; likewise the next two
    weights: np.ndarray
    neighbors: np.ndarray
    places: np.ndarray  #: int64 (images, 4): first entry, d + 1, first neighbor, corners
    points: int  #: of an image

    @property
    def largest(self) -> int:
        """Corners of the lattice that has most."""
        return int(self.places[:, 3].max())

    @property
    def corners_in_all(self) -> int:
        """Corners of all lattices."""
        return int(self.places[:, 3].sum())


def lattices_of(lattices: Sequence[Lattice]) -> Lattices:
    """The lattices, at least one, of as many points and dimensions each."""
    places, entries, neighbors = [], 0, 0
    for lattice in lattices:
        places.append((entries, lattice.corners.shape[1], neighbors, lattice.size))
        entries += lattice.corners.size
        neighbors += lattice.neighbors.size
    flat = [
        np.concatenate([part.reshape(-1) for part in parts]) if len(parts) > 1 else parts[0].reshape(-1)
        for parts in zip(*lattices, strict=True)
    ]
    return Lattices(flat[0], flat[1], flat[2], np.array(places, np.int64), len(lattices[0].corners))


def filter_on_lattices(
    values: np.ndarray,
    lattices: Lattices,
    *,
    send: np.ndarray | None = None,
    receive: np.ndarray | None = None,
    transposed: bool = False,
    count: int | None = None,
) -> np.ndarray:
    """``receive alpha S^T B_d .. B_0 S send v`` for every image and channel.

    Args:
        values: (b, l, n) in the lattices' precision, C-contiguous.
        lattices: of b images of n points.
        send: a factor of every point (b, n), of the same precision; None for 1.
        receive: like ``send``.
        transposed: the axes in reverse order: the matrix' transpose, with the factors as they stand.
        count: of threads; of several numbers of threads the sums are rounded differently.
    """
    count = threads.threads() if count is None else count
    batch, points = len(values), lattices.points
    groups = -(-values.shape[1] // 8)
    shared = batch * groups % count
    tables = np.empty((max(2 * count, 2), lattices.largest + 1, 8), values.dtype)
    table = np.empty((points if shared else 1, 8), values.dtype)
    send, receive = (
        np.ones((batch, points), values.dtype) if factor is None else factor for factor in (send, receive)
    )
    out = np.empty_like(values)
    phases = 1 + shared * (2 + phases_of(int(lattices.places[0, 1])))
    threads.run(
        _through_lattices, counters_for(phases), lattices.corners, lattices.weights, lattices.neighbors,
        lattices.places, points, transposed, send, receive, values, tables, table, min(count, 8),
        out, count=count,
    )  # fmt: skip
    return out


@entry
def _through_lattices(
    thread, count, counters, corners, weights, neighbors, places, points, transposed, send, receive, values,
    tables, table, pieces, out,
):  # fmt: skip
    batch, labels, _ = values.shape
    groups = (labels + 7) // 8
    tasks = batch * groups
    alone = tasks - tasks % count
    rows = np.empty((CHUNK, 8), values.dtype)
    task = claim(counters, 0)
    while task < alone:
        image, group = task // groups, task % groups
        entries, size, axes, some = places[image]
        lattice = (corners, entries, weights, neighbors, axes, size, some, points)
        place, few = image * labels * points + 8 * group * points, min(8, labels - 8 * group)
        filter_group_alone(
            lattice, transposed, send, receive, image * points, values, place, few, tables,
            2 * thread, rows, out,
        )  # fmt: skip
        task = finish(counters, 0)
    phase = wait(counters, 0, alone)
    for task in range(alone, tasks):
        image, group = task // groups, task % groups
        entries, size, axes, some = places[image]
        lattice = (corners, entries, weights, neighbors, axes, size, some, points)
        place, few = image * labels * points + 8 * group * points, min(8, labels - 8 * group)
        phase = gather_image(counters, phase, values, place, points, few, table)
        phase = filter_group(
            counters, phase, lattice, 1 / (1 + 2.0 ** (1 - size)), transposed, send, receive,
            image * points, table, 0, tables, pieces, table, 0, False, False, counters,
        )  # fmt: skip
        phase = scatter_image(counters, phase, table, out, place, points, few)
