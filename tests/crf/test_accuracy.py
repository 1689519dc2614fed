"""The measured error of a filter: against errors worked out from matrices, arguments, text."""

import dataclasses

import pytest
import torch

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import ExactFilter, FilterAccuracy, LocalFilter, PermutohedralFilter, filter_accuracy
from crfnet.crf.reference import local_matrix, normalized_kernel_matrix
from tests.tolerances import relative_l2

F64 = torch.float64


@pytest.fixture
def image():
    return 255 * torch.rand(2, 3, 9, 14, dtype=F64)


def test_against_matrices(image):
    marginals = torch.rand(2, 4, 9, 14, dtype=F64).softmax(1)
    error = filter_accuracy(LocalFilter(5), image, 4.0, 90.0, marginals=marginals)
    features, values = bilateral_features(image, 4.0, 90.0), marginals.flatten(2)
    local = local_matrix(features, (9, 14), 5, 1)
    rows, columns = local.sum(2, keepdim=True), local.sum(1, keepdim=True)
    scaled = {"after": local / rows, "symmetric": local / (rows * columns).sqrt(), "before": local / columns}
    for name, matrix in scaled.items():
        actual, expected = (values @ k.mT for k in (matrix, normalized_kernel_matrix(features, name)))
        assert error.relative_l2[name] == pytest.approx(relative_l2(actual, expected), rel=1e-9)
        assert error.largest[name] == pytest.approx(float((actual - expected).abs().max()), rel=1e-9)
    expected = values @ normalized_kernel_matrix(features, "none").mT
    assert error.raw == pytest.approx(relative_l2(values @ local.mT, expected), rel=1e-9)


def test_exact_has_none(image):
    error = filter_accuracy(ExactFilter(), image, 4.0, 40.0)
    assert error.raw == 0
    assert set(error.relative_l2.values()) == set(error.largest.values()) == {0}


def test_made_up_marginals_are_seeded(image):
    first, again, other = (
        filter_accuracy(PermutohedralFilter(), image, 4.0, 40.0, seed=s) for s in (0, 0, 1)
    )
    assert first == again
    assert first.raw != other.raw
    assert torch.initial_seed() == 0  # the global generator is left alone
    assert "21 labels" in first.problem


def test_bytes_and_text(image):
    error = filter_accuracy(PermutohedralFilter(rows=9), image.to(torch.uint8), 4.0, 40.0, labels=3)
    assert 0.001 < error.relative_l2["after"] < 0.5
    text = str(error)
    assert "PermutohedralFilter(rows=9) against ExactFilter(eps=1e-06)" in text
    assert "2 x 9 x 14 pixels, 3 labels, 4/40" in text
    assert f"symmetric   relative L2 {100 * error.relative_l2['symmetric']:.3g} %" in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        error.raw = 0.0
    assert isinstance(error, FilterAccuracy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta_alpha": 0.0}, "theta_alpha is 0.0"),
        ({"theta_beta": float("inf")}, "theta_beta is inf"),
        ({"labels": 0}, "labels is 0"),
        (
            {"marginals": torch.rand(2, 4, 9, 13)},
            r"marginals: shape \(2, 4, 9, 13\), must be \(2, labels, 9, 14\)",
        ),
    ],
)
def test_arguments_are_checked(image, changes, message):
    arguments = {"theta_alpha": 4.0, "theta_beta": 40.0, **changes}
    with pytest.raises(ValueError, match=message):
        filter_accuracy(PermutohedralFilter(), image, **arguments)


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match=r"image: shape \(1, 3, 0, 4\)"):
        filter_accuracy(PermutohedralFilter(), torch.zeros(1, 3, 0, 4), 4.0, 40.0)
