"""Losses by hand, the subsampled labels, and what an all-void batch gives."""

import math

import pytest
import torch
from torch import nn

from crfnet.segmenter import Segmenter
from crfnet.training.loss import image_loss, sampled_positions, stride_loss, training_loss
from tests.training.conftest import tiny_config, tiny_segmenter, tiny_segmenter_with_edges


def test_image_loss_by_hand():
    logits = torch.tensor([[[[0.0, 2.0, 5.0]], [[0.0, 0.0, 1.0]]]])  # two classes, three pixels
    labels = torch.tensor([[[1, 0, 255]]])
    expected = (math.log(2) + math.log1p(math.exp(-2))) / 2  # the third pixel is void
    assert float(image_loss(logits, labels)) == pytest.approx(expected)


def test_pixels_count_the_same_in_every_image():
    logits = torch.tensor([[0.0, 0.0], [3.0, 0.0]]).reshape(2, 2, 1, 1).repeat(1, 1, 1, 4)
    labels = torch.full((2, 1, 4), 0)
    labels[0, 0, 1:] = 255
    expected = (math.log(2) + 4 * math.log1p(math.exp(-3))) / 5
    assert float(image_loss(logits, labels)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [image_loss, stride_loss])
def test_all_void_is_zero_with_zero_gradient(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_321_pixels_at_41_positions_are_every_eighth_from_zero():
    assert sampled_positions(321, 41) == list(range(0, 321, 8))


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [
        (5, 5, [0, 1, 2, 3, 4]),
        (16, 2, [0, 8]),
        (17, 3, [0, 8, 16]),
        (10, 2, [0, 8]),  # stride 8; 4 would give 3 positions
        (33, 3, [0, 16, 32]),
        (16, 3, [0, 8, 15]),  # stride 8 with a position beyond the image, as pools in ceil mode make
        (9, 1, [0]),
        (12, 5, [1, 3, 6, 8, 10]),  # no power of two: the middles of five parts of 2.4 pixels
        (3, 6, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_sampled_positions(size, count, expected):
    assert sampled_positions(size, count) == expected


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
def test_sampled_positions_are_where_strided_convolutions_look(stride):
    for size in range(1, 70):
        count = nn.Conv1d(1, 1, 3, stride=stride, padding=1)(torch.zeros(1, 1, size)).shape[2]
        assert sampled_positions(size, count) == list(range(0, size, stride))


def test_stride_loss_takes_rows_and_columns_of_the_labels():
    labels = torch.full((1, 17, 10), 255)
    labels[0, 8, 0] = 1  # row 1, column 0 of the 3 x 2 map
    labels[0, 16, 8] = 0  # row 2, column 1
    labels[0, 3, 3] = 0  # between the positions: unseen
    scores = torch.zeros(1, 2, 3, 2)
    scores[0, :, 1, 0] = torch.tensor([1.0, 0.0])
    scores[0, :, 2, 1] = torch.tensor([4.0, 0.0])
    expected = (math.log1p(math.exp(1)) + math.log1p(math.exp(-4))) / 2
    assert float(stride_loss(scores, labels)) == pytest.approx(expected)


@pytest.fixture
def batch():
    return torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8), torch.randint(0, 3, (2, 16, 24))


def test_training_loss_at_the_stride_is_of_the_scores(batch):
    model = tiny_segmenter().eval()
    expected = stride_loss(model.strided_logits(batch[0]), batch[1])
    assert torch.equal(training_loss(model, *batch, tiny_config()), expected)


@pytest.mark.parametrize(
    "build",
    [tiny_segmenter, lambda: tiny_segmenter(crf=True), tiny_segmenter_with_edges],
    ids=["alone", "crf", "learned edges"],
)
def test_joint_loss_is_the_sum(batch, build):
    model = build().eval()
    logits, scores = model.both(batch[0])
    expected = image_loss(logits, batch[1]) + 0.5 * stride_loss(scores, batch[1])
    assert torch.equal(training_loss(model, *batch, tiny_config(loss="image", unary_loss=0.5)), expected)
    without = training_loss(model, *batch, tiny_config(loss="image"))
    assert torch.equal(without, image_loss(model(batch[0]), batch[1]))


def test_the_loss_reaches_learned_edges(batch):
    model = tiny_segmenter_with_edges()
    training_loss(model, *batch, tiny_config(loss="image")).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.edge_net.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("config", [tiny_config(), tiny_config(loss="image", unary_loss=0.5)])
def test_scores_that_are_not_finite_give_a_loss_that_is_not(batch, bad, config):
    class Broken(nn.Module):
        def forward(self, image):
            return torch.full((len(image), 3, 2, 3), bad)

    crf = tiny_segmenter(crf=True).crf if config.loss == "image" else None
    assert not torch.isfinite(training_loss(Segmenter(Broken(), crf), *batch, config))
