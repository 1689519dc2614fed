"""Every argument of every function, of every length and kind: as the original, or as the README says."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crfnet.pydensecrf import _arrays, densecrf, eigen, utils
from tests.pydensecrf.calls import CALLS
from tests.pydensecrf.differences import DIFFERENT
from tests.pydensecrf.record_original import TABLE, outcome
from tests.pydensecrf.small_problem import crf, image

README = Path(utils.__file__).with_name("README.md")
ORIGINAL = json.loads(TABLE.read_text(encoding="utf-8"))
RGB = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And with no warning given before."""
    monkeypatch.setenv("CRFNET_DEVICE", "cpu")
    _arrays.warn_once.cache_clear()
    yield
    _arrays.warn_once.cache_clear()


def compared(original: dict, here: dict) -> str:
    if "error" in here:
        return "same" if "error" in original else "refused"
    if "error" in original:
        return "taken"
    close = (original["shape"], original["type"]) == (here["shape"], here["type"]) and np.allclose(
        original["values"], here["values"], rtol=1e-3, atol=1e-4, equal_nan=True
    )
    return "same" if close else "differs"


def test_every_call() -> None:
    assert list(ORIGINAL) == CALLS
    outcomes = {call: compared(ORIGINAL[call], outcome(call, utils, densecrf, eigen)) for call in CALLS}
    unexplained, used = [], set()
    for call, what in outcomes.items():
        rows = {
            row
            for row, (expected, pattern) in DIFFERENT.items()
            if expected == what and re.search(pattern, call)
        }
        used |= rows
        if what != "same" and not rows and call not in EMPTY:
            unexplained.append((what, call))
    assert not unexplained
    assert used == DIFFERENT.keys()


#: Matrices without a number: the original forgets the other size, and takes no values in its constructor.
EMPTY = {"eigen.matrixXf(U[:0])", "eigen.matrixXf(U[:, :0])", "eigen.MatrixXf(U)"}


def test_the_readme_has_a_row_for_every_difference() -> None:
    rows = {
        line.split(" | ")[0].removeprefix("| ") for line in README.read_text(encoding="utf-8").splitlines()
    }
    assert rows >= DIFFERENT.keys()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: utils.create_pairwise_bilateral((3, 4), (20,), RGB, 2), "schan has fewer than 3 numbers"),
        (lambda: utils.create_pairwise_bilateral((3,), 5, RGB, 2), "sdims has fewer than 2 numbers"),
        (lambda: utils.create_pairwise_bilateral(3, 5, RGB, 2), "sdims is one number"),
        (lambda: utils.create_pairwise_gaussian(3, (2, 3)), "sdims is one number"),
        (lambda: crf().addPairwiseGaussian((3, 4, 5), 3), "sxy has more than 2 numbers"),
        (lambda: crf().addPairwiseGaussian([3], 3), "sxy is a sequence of one number"),
        (lambda: crf().addPairwiseBilateral(3, (4,), image(), 3), "srgb is a sequence of one number"),
        (lambda: crf().addPairwiseBilateral(3, (4, 5, 6, 7), image(), 3), "srgb has more than 3 numbers"),
    ],
)
def test_one_warning(call, words) -> None:
    with pytest.warns(UserWarning, match=words) as caught:
        call()
    assert len(caught) == 1
    assert Path(caught[0].filename).parent != README.parent  # of the caller, or what checks shapes before it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


def test_short_schan_scales_the_first_channels() -> None:
    with pytest.warns(UserWarning, match="schan"):
        features = utils.create_pairwise_bilateral((1, 1), (20.0,), RGB, 2)
    np.testing.assert_allclose(features[2:], RGB.reshape(-1, 3).T / [[20], [1], [1]], rtol=1e-6)
