"""Which size is solved first, by the times of earlier pictures; widths shrink with the image."""

from dataclasses import replace

import pytest
import torch

from crfnet.crf.filters import FILTERS, LocalFilter, PermutohedralFilter
from crfnet.explore import Session
from crfnet.explore import session as session_module
from crfnet.explore.kept_lattices import lattice_key
from tests.explore.test_session import CRF, scene


@pytest.fixture
def session():
    return Session(*scene())


def test_windows_shrink_with_the_image():
    assert LocalFilter(window=11).for_smaller(2).window in (5, 7)
    assert LocalFilter(window=11, pool=4).for_smaller(2) == LocalFilter(window=11, pool=2)
    assert LocalFilter(window=11, pool=4).for_smaller(1).pool == 4
    assert LocalFilter(window=5).for_smaller(9).window == 3
    for name in FILTERS:
        assert FILTERS[name]().for_smaller(1) == FILTERS[name]()


def test_the_very_first_picture_is_as_large_as_its_filter_allows():
    large = Session(*scene(500, 600))
    assert large.preview(replace(CRF, iterations=1)).factor == 2
    assert Session(*scene(512, 512)).preview(replace(CRF, iterations=1)).factor == 1
    assert large.preview(replace(CRF, iterations=1, filter="exact", w1=0.0)).factor == 9


def test_the_size_follows_what_is_known_of_the_time(session, monkeypatch):
    """A tenth of a second a step at full size, a second for a build; quarter the pixels, quarter the time."""
    pixels = session.image[0].numel()
    for factor in (1, 2):
        for built in (True, False):
            seconds = (0.1 * (3 + 2) + built) / factor**2
            session._pace.note(CRF, built, factor, pixels // factor**2, seconds)
    assert session._factor_in_time(CRF) == 2  # 1.5 s whole, 0.375 s at half the size
    kept = lattice_key("bilateral", CRF, 1)
    session._lattices._kept[kept] = None
    assert session._factor_in_time(CRF) == 1  # 0.5 s with the lattice that is there
    assert session._factor_in_time(replace(CRF, w1=7.0)) == 1
    assert session._factor_in_time(replace(CRF, iterations=4)) == 2
    assert session._factor_in_time(replace(CRF, theta_beta=4.0)) == 2
    assert session._factor_in_time(replace(CRF, theta_beta=4.0, w1=0.0)) == 1
    assert session._factor_in_time(replace(CRF, iterations=60)) == 7  # from the times at half the size
    assert session._factor_in_time(replace(CRF, iterations=10**4)) == session_module._SMALLEST
    monkeypatch.setattr(PermutohedralFilter, "quick_pixels", 500)
    assert session._factor_in_time(replace(CRF, prune=0.0)) == 2  # never seen


def test_what_would_take_minutes_is_not_started(session):
    first = session.preview(CRF)
    assert first.factor == 1
    assert session.full_size(first) is first
    slow = replace(first, factor=4, seconds=3.0)
    assert session.full_size_seconds(slow) == 48
    whole = session.full_size(slow)  # whose steps can be stopped
    assert whole.factor == 1
    assert torch.equal(whole.labels, first.labels)
    exact = replace(slow, config=replace(CRF, filter="exact"))
    assert session.full_size_seconds(exact) == 768
    assert session.full_size(exact) is None
    assert session.full_size(replace(exact, seconds=0.1)).factor == 1
