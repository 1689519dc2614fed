"""What an inference scheme promises."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from crfnet.shapes import Values

__all__ = ["Inference"]


class Inference(ABC):
    """How the marginals Q are found: a frozen recipe that holds nothing to learn."""

    iterations: int  #: steps in evaluation mode, >= 0
    train_iterations: int  #: steps in training mode, >= 0

    @abstractmethod
    def run(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None = None,
    ) -> Values:
        """Log marginals after ``iterations`` steps.

        Computes in float32 whatever autocast says and whatever lower precision comes in; float64 stays
        float64. The leading axis may be anything that ``penalty`` keeps: images, or many settings for one.

        Args:
            unary: logits, in nats, finite (a per-pixel constant changes nothing).
            penalty: maps marginals to what is subtracted from the logits, of the same shape.
            iterations: number of steps, >= 0.
            trace: a list to which the marginals Q^0 ... Q^iterations are appended.
        """
