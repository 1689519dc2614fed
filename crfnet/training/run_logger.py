"""What a run tells while it trains: a JSON line per step, TensorBoard's curves and pictures, a bar."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.data import SegmentationDataset
from crfnet.distributed import is_rank_zero
from crfnet.files import write_atomically
from crfnet.labels import paint
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["RunLogger"]


class RunLogger:
    """``log.jsonl`` and ``tensorboard/`` in a run's folder; used with ``with``; of the first process alone.

    Both may hold steps up to ``step`` from before; what a killed run wrote after its last checkpoint is cut
    off, since those steps are done again.

    Args:
        folder: of the run; made when missing.
        step: updates done so far.
        steps: updates when it is finished.
        every: how often TensorBoard gets the numbers and the log whole matrices, in steps.
        again: whether the line of ``step`` itself is still to be written.

    Attributes:
        silent: whether this process writes nothing.
    """

    def __init__(self, folder: Path, step: int, steps: int, every: int, *, again: bool = False) -> None:
        self._every, self.silent = every, not is_rank_zero()
        if self.silent:
            return
        # Takes over a second, which commands that do not train need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.jsonl"
        _cut(log, step - again)
        self._log = log.open("a", buffering=1)  # a line at a time: a kill loses none
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        self._bar = tqdm(desc="training", initial=step, total=steps, unit="step", mininterval=0.5)

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.silent:
            return
        self._bar.close()
        try:
            self._log.close()
            self._board.close()
        except OSError:  # of a full disk, which ends the training anyway: by what came first
            if error is None:
                raise

    def write(
        self, step: int, numbers: dict[str, float], crf: dict[str, float | Tensor], miou: float | None = None
    ) -> None:
        """One line for ``step`` = 1, 2, ...; CRF matrices only every few steps, since they are large."""
        if self.silent:
            return
        now = step % self._every == 0
        shown: dict[str, Any] = {
            name: value.tolist() if isinstance(value, Tensor) else value
            for name, value in crf.items()
            if now or not isinstance(value, Tensor) or value.ndim < 2
        }
        told, validated = (
            {name: number if math.isfinite(number) else None for name, number in given.items()}
            for given in (numbers, {} if miou is None else {"miou": miou})
        )
        line = {"step": step, **told, **validated, **({"crf": shown} if shown else {})}
        self._log.write(json.dumps(line) + "\n")
        for name, number in {**(told if now else {}), **validated}.items():
            if number is not None:
                self._board.add_scalar(name, number, step)
        for name, value in crf.items() if now else ():
            if isinstance(value, Tensor):
                self._board.add_histogram(f"crf/{name}", value, step)
            else:
                self._board.add_scalar(f"crf/{name}", value, step)
        self._bar.set_postfix(loss=f"{numbers['loss']:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)

    def picture(
        self,
        step: int,
        image: ImageBytes,
        labels: LabelMap,
        prediction: LabelMap,
        dataset: SegmentationDataset,
    ) -> None:
        """Image, truth and prediction side by side, in the colors of ``dataset``."""
        palette = dataset.palette
        strip = torch.cat([image.cpu(), paint(labels, palette), paint(prediction, palette)], dim=2)
        self._board.add_image("image, truth, prediction", strip, step)

    def keep(self) -> None:
        """Forces the log to the disk, so that it never ends before a checkpoint does."""
        if not self.silent:
            os.fsync(self._log.fileno())


def _cut(log: Path, step: int) -> None:
    """Keeps the lines of ``log`` up to ``step``; a half-written last one is dropped."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text().splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(f"{line}\n")
    write_atomically(log, "".join(kept).encode())
