"""How many examples there are, and how a test goes through them.

There are 1,090 over the kinds of files. A test takes a part of its own where all tests run, and all
of them with ``-m slow``; both are the same every time. Five times as many others, from seed 7:
``CRFNET_FUZZ_SEED=7 CRFNET_FUZZ_TIMES=5 pytest tests/fuzz -m slow``.
"""

import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies

__all__ = ["fuzz", "parts"]

_SEED = os.environ.get("CRFNET_FUZZ_SEED")
_TIMES = int(os.environ.get("CRFNET_FUZZ_TIMES", "1"))

#: The parameter ``part`` of a test: what `fuzz` divides its examples by.
parts = pytest.mark.parametrize(
    "part", [pytest.param(6, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)


def fuzz(
    example: Callable[[Any], None], strategy: strategies.SearchStrategy[Any], count: int, part: int
) -> None:
    """Calls `example` with what `strategy` makes, ``count / part`` times; shows the simplest that fails."""

    def one(value: Any) -> None:
        example(value)

    tried = given(value=strategy)(one)
    if _SEED is not None:
        tried = hypothesis.seed(int(_SEED))(tried)
    settings(
        max_examples=max(1, _TIMES * count // part),
        derandomize=_SEED is None,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(tried)()
