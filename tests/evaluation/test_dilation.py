"""Dilation at every radius against loops over the definition of each element."""

import math

import pytest
import torch

from crfnet.evaluation.dilation import ELEMENTS, changes, dilation_radius

DISTANCE = {
    "square": lambda y, x: max(abs(y), abs(x)),
    "disc": math.hypot,
    "cross": lambda y, x: abs(y) + abs(x),
}


def brute_force(seeds, element, largest):
    """Of each pixel the smallest radius of an element around a seed that holds it."""
    height, width = len(seeds), len(seeds[0])
    places = [(y, x) for y in range(height) for x in range(width) if seeds[y][x]]
    return [
        [
            next(
                (
                    r
                    for r in range(largest + 1)
                    if any(DISTANCE[element](y - i, x - j) <= r for i, j in places)
                ),
                largest + 1,
            )
            for x in range(width)
        ]
        for y in range(height)
    ]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(("size", "share"), [((9, 13), 0.03), ((17, 5), 0.1), ((1, 8), 0.2), ((6, 1), 0.2)])
def test_against_loops(element, size, share):
    for seed in range(3):
        seeds = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share
        for largest in (0, 1, 4, 20):
            expected = brute_force(seeds.tolist(), element, largest)
            assert dilation_radius(seeds, element, largest).tolist() == expected


def test_elements_of_radius_two():
    """One seed dilated by hand."""
    seed = torch.zeros(5, 5, dtype=torch.bool)
    seed[2, 2] = True
    shown = {element: (dilation_radius(seed, element, 2) <= 2).int().tolist() for element in ELEMENTS}
    assert shown["square"] == [[1] * 5] * 5
    cross = [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    assert shown["cross"] == shown["disc"] == cross
    assert (dilation_radius(seed, "disc", 3) <= 3).all()  # the corners are 2.83 away
    assert int(dilation_radius(seed, "cross", 3)[0, 0]) == 4


@pytest.mark.parametrize("element", ELEMENTS)
def test_far_distances_do_not_overflow(element):
    seeds = torch.zeros(2, 400, dtype=torch.bool)
    seeds[0, 0] = True
    assert dilation_radius(seeds, element, 399)[0].tolist() == list(range(400))


def test_changes_by_hand():
    labels = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 9, 0, 0]])
    only_four = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert changes(labels, diagonal=False, ignored=9).int().tolist() == only_four
    all_eight = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert changes(labels, diagonal=True, ignored=9).int().tolist() == all_eight
    assert changes(labels, diagonal=False).int().tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
    assert changes(torch.zeros(3, 3).int(), diagonal=True, border=True).int().tolist() == [
        [1, 1, 1],
        [1, 0, 1],
        [1, 1, 1],
    ]


def test_bad_arguments():
    with pytest.raises(ValueError, match="largest is -1"):
        dilation_radius(torch.zeros(2, 2, dtype=torch.bool), "disc", -1)
