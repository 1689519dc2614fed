"""The filter that chooses: by points, dimensions and device; what it says; what it passes on."""

import logging

import pytest
import torch

from crfnet.crf.filters import AutoFilter, ExactFilter, PermutohedralFilter
from crfnet.crf.filters import auto as auto_module
from tests.tolerances import assert_close

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(auto_module, "_SAID", set())


@pytest.mark.parametrize(
    ("points", "dimensions", "device", "expected"),
    [
        (1, 5, CPU, ExactFilter),
        (4096, 5, CPU, ExactFilter),
        (4097, 5, CPU, PermutohedralFilter),
        (167_000, 16, CPU, PermutohedralFilter),
        (167_000, 17, CPU, ExactFilter),
        (65_536, 5, CUDA, ExactFilter),
        (65_537, 5, CUDA, PermutohedralFilter),
        (4097, 5, torch.device("meta"), PermutohedralFilter),
    ],
)
def test_choice(points, dimensions, device, expected):
    assert isinstance(AutoFilter().choose(points, dimensions, device), expected)


def test_settings_reach_what_is_built():
    auto = AutoFilter(rows=7, eps=1e-3)
    assert auto.choose(100, 5, CPU) == ExactFilter(eps=1e-3)
    assert auto.choose(10_000, 5, CPU) == PermutohedralFilter(rows=7)
    assert auto.for_learned_features() == ExactFilter(eps=1e-3)


def test_says_each_choice_once(caplog):
    with caplog.at_level(logging.INFO, logger="crfnet"):
        for points in (167_000, 100, 167_000):
            AutoFilter().choose(points, 5, CPU)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("crfnet", "INFO", "filter auto: permutohedral for 167000 points of 5 dimensions on cpu"),
        ("crfnet", "INFO", "filter auto: exact for 100 points of 5 dimensions on cpu"),
    ]


@pytest.mark.parametrize("learning", [False, True])
def test_builds_what_it_chose(learning):
    """A theta that learns gives features a gradient, and does not change the choice."""
    features, values = torch.randn(2, 3, 5000), torch.rand(2, 2, 5000)
    features.requires_grad_(learning)
    mask = torch.rand(2, 5000) < 0.5
    for chosen, pixels in ((ExactFilter(), 60), (PermutohedralFilter(), 5000)):
        some, inside = features[..., :pixels], mask[:, :pixels]
        operator = AutoFilter().operator(some, mask=inside)
        assert operator.features_need_grad == learning
        expected = chosen.operator(some, mask=inside)
        assert type(operator) is type(expected)
        assert_close(operator(values[..., :pixels]), expected(values[..., :pixels]), "exact", torch.float32)


@pytest.mark.parametrize(("settings", "message"), [({"rows": 0}, "rows is 0"), ({"eps": 2.0}, "eps is 2.0")])
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        AutoFilter(**settings)
