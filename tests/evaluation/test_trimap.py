"""Trimaps against pure Python loops over the definitions, and cases whose answer is seen by eye."""

import functools
import math

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.evaluation.dilation import ELEMENTS
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.trimap import BANDS, MAX_WIDTH, NEVER, WIDTHS, band_distance
from crfnet.labels import VOID

DISTANCE = {
    "square": lambda y, x: max(abs(y), abs(x)),
    "disc": math.hypot,
    "cross": lambda y, x: abs(y) + abs(x),
}


def trimap_confusions(prediction, labels, num_classes, band, max_width=MAX_WIDTH, element="square"):
    """Confusion matrix for each width, as an evaluation counts it."""
    evaluation = Evaluation(num_classes, max_width, element)
    evaluation.add("a", prediction, labels)
    return evaluation.trimap(band)[0]


def around(labels, y, x, radius, element):
    """The pixels under the element of that radius centered on (y, x)."""
    return _around(len(labels), len(labels[0]), y, x, radius, element)


@functools.cache
def _around(height, width, y, x, radius, element):
    inside = DISTANCE[element]
    return [(i, j) for i in range(height) for j in range(width) if inside(i - y, j - x) <= radius]


def in_void_band(labels, y, x, w, element):
    return any(labels[i][j] == VOID for i, j in around(labels, y, x, w, element))


def in_change_band(labels, y, x, w, element):
    """Within w-1 of a pixel that has another non-void class under the element of radius 1."""
    return any(
        labels[i][j] != VOID
        and any(labels[k][l] not in (VOID, labels[i][j]) for k, l in around(labels, i, j, 1, element))
        for i, j in around(labels, y, x, w - 1, element)
    )


IN_BAND = {"void": in_void_band, "change": in_change_band}


def brute_force(prediction, labels, num_classes, band, w, element):
    """Confusion matrix of one width, pixel by pixel."""
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int32)
    for y, row in enumerate(labels):
        for x, truth in enumerate(row):
            if truth != VOID and IN_BAND[band](labels, y, x, w, element):
                confusion[truth, prediction[y][x]] += 1
    return confusion


def random_maps(seed, height=9, width=7):
    """Blobs of three classes with some void, and a prediction that is often wrong."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.tensor([0, 1, 2, VOID])[torch.randint(4, (3, 3), generator=generator)]
    labels = coarse.repeat_interleave(4, 0).repeat_interleave(3, 1)[:height, :width]
    return torch.randint(3, (height, width), generator=generator), labels.contiguous()


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_against_loops(band, element, seed):
    """Every width by explicit dilation, to beyond the one that covers the image."""
    prediction, labels = random_maps(seed)
    found = trimap_confusions(prediction, labels, 3, band, 16, element)
    for w in range(1, 17):
        expected = brute_force(prediction.tolist(), labels.tolist(), 3, band, w, element)
        assert torch.equal(found[w - 1], expected), w


def test_void_band_is_imdilate_of_the_void_mask():
    """EvalCRF_Boundary.m on a hand-made image: dilate (gt == 255) with ones(2w+1), take 255 away."""
    labels = torch.zeros(7, 8, dtype=torch.int64)
    labels[2:4, 0] = labels[5, 5] = VOID
    labels[:, 6:] = 1
    dilated = {
        1: [
            "........",
            "11......",
            "#1......",
            "#1......",
            "11..111.",
            "....1#1.",
            "....111.",
        ],
        2: [
            "111.....",
            "111.....",
            "#11.....",
            "#1111111",
            "11111111",
            "11111#11",
            "...11111",
        ],
    }
    for w, rows in dilated.items():
        expected = [[pixel == "1" for pixel in row] for row in rows]
        assert (band_distance(labels, "void") <= w).tolist() == expected, w


def test_void_band_is_the_authors_dilation():
    """One void pixel dilated by a square of side 2w+1, minus void: rings of 8, 16, 24, corners included."""
    labels = torch.zeros(9, 9, dtype=torch.int64)
    labels[4, 4] = VOID
    inside = trimap_confusions(labels.clamp(max=0), labels, 2, "void", max_width=3)[:, 0, 0]
    assert inside.tolist() == [8, 8 + 16, 8 + 16 + 24]
    assert band_distance(labels, "void")[3, 3] == 1
    assert band_distance(labels, "void")[4, 4] == NEVER


def test_void_band_at_the_image_border():
    """The image border cuts the band and grows none of its own."""
    labels = torch.tensor([[VOID, 0, 0, 1]])
    assert band_distance(labels, "void").tolist() == [[NEVER, 1, 2, 3]]


def test_change_band_by_hand():
    """Both sides of a change have distance 1; a change across void is none."""
    assert band_distance(torch.tensor([[0, 0, 0, 1, 1]]), "change").tolist() == [[3, 2, 1, 1, 2]]
    across = torch.tensor([[0, 0, VOID, 1, 2]])
    assert band_distance(across, "change").tolist() == [[4, 3, NEVER, 1, 1]]


def test_change_band_is_distance_to_another_class():
    labels = torch.zeros(8, 9, dtype=torch.int64)
    labels[2:5, 3:6] = 1
    found = band_distance(labels, "change").tolist()
    for y in range(8):
        for x in range(9):
            others = [
                max(abs(y - i), abs(x - j))
                for i in range(8)
                for j in range(9)
                if labels[i, j] != labels[y, x]
            ]
            assert found[y][x] == min(others)


@pytest.mark.parametrize(
    ("labels", "band"),
    [
        (torch.tensor([[0, 1]]), "void"),
        (torch.tensor([[0, VOID, 1]]), "change"),
        (torch.full((2, 2), VOID), "void"),
    ],
)
def test_nothing_to_grow_from(labels, band):
    """Without void (or a change) there is no band; void itself is never in it."""
    assert (band_distance(labels, band) == NEVER).all()
    assert trimap_confusions(labels % VOID, labels, 2, band, max_width=2).sum() == 0


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("element", ELEMENTS)
def test_perfect_prediction_is_one_at_every_width(band, element):
    labels = torch.zeros(20, 60, dtype=torch.int64)
    labels[:, 20:] = 1
    labels[5:15, 10:12] = VOID
    found = metrics(trimap_confusions(labels % VOID, labels, 2, band, element=element))
    assert found.miou.shape == (len(WIDTHS),)
    for each in (found.miou, found.pixel_accuracy, found.mean_accuracy):
        assert (each == 1).all()


def test_widest_band_is_the_whole_image():
    prediction, labels = random_maps(3)
    widest = trimap_confusions(prediction, labels, 3, "void", max_width=12)[-1]
    assert torch.equal(widest, confusion_matrix(prediction, labels, 3))


def test_a_largest_width_only_cuts_off():
    _, labels = random_maps(4)
    for band in BANDS:
        near, every = band_distance(labels, band, "disc", 3), band_distance(labels, band, "disc")
        assert torch.equal(near, every.masked_fill(every > 3, NEVER))
        assert ((every > 3) & (every < NEVER)).any()


def test_bad_arguments():
    labels = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(InputError, match="one size"):
        trimap_confusions(labels.T, labels, 2, "void")
    with pytest.raises(ValueError, match="max_width is 0"):
        trimap_confusions(labels, labels, 2, "void", max_width=0)
