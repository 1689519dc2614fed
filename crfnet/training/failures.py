"""Failures of training: numbers that are not finite, files that cannot be written or read."""

import math
from pathlib import Path

__all__ = ["TrainingDivergedError", "TrainingFailedError", "check_finite"]


class TrainingDivergedError(RuntimeError):
    """Loss, gradient or a weight is not finite; the message names the step and the last checkpoint."""


class TrainingFailedError(RuntimeError):
    """A file cannot be written or read in the middle of training; the message is one line with the reason."""


def check_finite(numbers: dict[str, float], step: int, path: Path) -> None:
    """Refuse numbers that are not finite.

    Args:
        numbers: by name; alike in every process.
        step: from 1 on.
        path: of the last checkpoint, if there is one.

    Raises:
        TrainingDivergedError: one is not finite.
    """
    for name, number in numbers.items():
        if not math.isfinite(number):
            kept = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
            raise TrainingDivergedError(
                f"training diverged: {name} is {number} in iteration {step}; {kept}; "
                "try a lower lr or crf_lr, or set clip"
            )
