"""Ending a computation whose result is not wanted any more, from another thread."""

from collections.abc import Callable

import numpy as np

from crfnet.crf.inference import Inference
from crfnet.shapes import Values

__all__ = ["Cancelable", "Canceled", "Stop"]


class Canceled(Exception):  # noqa: N818 - nothing went wrong
    """The result is not wanted any more."""


class Stop:
    """Says that a result is not wanted any more; any thread may say so.

    Attributes:
        flag: (1,) bool, which compiled code reads between two steps.
    """

    def __init__(self) -> None:
        self.flag = np.zeros(1, bool)

    def set(self) -> None:
        """Say so."""
        self.flag[0] = True

    def clear(self) -> None:
        """Take it back, for the next computation."""
        self.flag[0] = False

    def check(self) -> None:
        """Return if the result is wanted.

        Raises:
            Canceled: it is not.
        """
        if self.flag[0]:
            raise Canceled


class Cancelable(Inference):
    """An inference scheme that asks before each of its steps whether to go on.

    Args:
        inner: the scheme.
        stop: asked; `Canceled` comes out of `run` where it says so.
    """

    def __init__(self, inner: Inference, stop: Stop) -> None:
        self._inner, self._stop = inner, stop

    def _steps(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None,
        begin: Values | None = None,
    ) -> Values:
        def unless_stopped(q: Values) -> Values:
            self._stop.check()
            return penalty(q)

        return self._inner.run(unary, unless_stopped, iterations, trace, begin=begin)
