"""What a run tells while it trains: a JSON line per step, and TensorBoard's curves and pictures."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from crfnet.evaluation.predict import Palette, paint
from crfnet.files import write_atomically
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["Journal"]


class Journal:
    """``log.jsonl`` and ``tensorboard/`` in a run's folder; used with ``with``.

    Both may hold steps up to ``step`` from before; what a killed run wrote after its last checkpoint is cut
    off, since those steps are done again.

    Args:
        folder: of the run; made when missing.
        step: updates done so far.
        every: how often TensorBoard gets the numbers and the log whole matrices, in steps.
    """

    def __init__(self, folder: Path, step: int, every: int) -> None:
        # Takes over a second, which commands that do not train need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        self._every = every
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.jsonl"
        _cut(log, step)
        self._log = log.open("a", buffering=1)  # a line at a time: a kill loses none
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        self._board.close()

    def write(self, step: int, numbers: dict[str, float], crf: dict[str, float | Tensor]) -> None:
        """One line for ``step`` = 1, 2, ...; CRF matrices only every few steps, since they are large."""
        now = step % self._every == 0
        shown: dict[str, Any] = {
            name: value.tolist() if isinstance(value, Tensor) else value
            for name, value in crf.items()
            if now or not isinstance(value, Tensor) or value.ndim < 2
        }
        self._log.write(json.dumps({"step": step, **numbers, **({"crf": shown} if shown else {})}) + "\n")
        if not now:
            return
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)
        for name, value in crf.items():
            if isinstance(value, Tensor):
                self._board.add_histogram(f"crf/{name}", value, step)
            else:
                self._board.add_scalar(f"crf/{name}", value, step)

    def picture(
        self, step: int, image: ImageBytes, labels: LabelMap, prediction: LabelMap, palette: Palette
    ) -> None:
        """Image, truth and prediction side by side."""
        strip = torch.cat([image.cpu(), paint(labels, palette), paint(prediction, palette)], dim=2)
        self._board.add_image("image, truth, prediction", strip, step)


def _cut(log: Path, step: int) -> None:
    """Keeps the lines of ``log`` up to ``step``; a half-written last one is dropped."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text().splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except ValueError:
            break
        kept.append(f"{line}\n")
    write_atomically(log, "".join(kept).encode())
