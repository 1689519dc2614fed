"""Log of a training run: a JSON line per step, TensorBoard's curves and images, a progress bar."""

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
from crfnet.files import record_file, write_atomically
from crfnet.labels import as_rgb, paint
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["RunLogger"]


class RunLogger:
    """Writer of ``log.jsonl`` and ``tensorboard/`` in a run's folder, on rank 0; a context manager.

    Both may hold steps up to ``step`` of the run that is resumed; what it wrote after its last checkpoint is
    removed, since those steps are done again.

    Args:
        folder: of the run; made when missing.
        step: updates done so far.
        steps: updates when it is finished.
        every: how often TensorBoard gets scalars and the log whole matrices, in steps.
        pending: whether the line of ``step`` itself is still to be written, after its validation.

    Attributes:
        silent: whether this process writes nothing.
    """

    def __init__(self, folder: Path, step: int, steps: int, every: int, *, pending: bool = False) -> None:
        self._every, self.silent = every, not is_rank_zero()
        if self.silent:
            return
        # Takes over a second, which commands that do not train need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.jsonl"
        _truncate(log, step - pending)
        record_file(log)
        self._log = log.open("a", buffering=1)  # a line at a time: a kill loses none
        before = set((folder / "tensorboard").glob("*"))
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        for events in set((folder / "tensorboard").glob("*")) - before:
            record_file(events)
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

    def log_step(
        self, step: int, metrics: dict[str, float], crf: dict[str, float | Tensor], miou: float | None = None
    ) -> None:
        """Log ``step`` = 1, 2, ...; the CRF's matrices only every few steps, since they are large."""
        if self.silent:
            return
        full = step % self._every == 0
        shown: dict[str, Any] = {
            name: value.tolist() if isinstance(value, Tensor) else value
            for name, value in crf.items()
            if full or not isinstance(value, Tensor) or value.ndim < 2
        }
        finite, validated = (
            {name: number if math.isfinite(number) else None for name, number in given.items()}
            for given in (metrics, {} if miou is None else {"miou": miou})
        )
        line = {"step": step, **finite, **validated, **({"crf": shown} if shown else {})}
        self._log.write(json.dumps(line) + "\n")
        for name, number in {**(finite if full else {}), **validated}.items():
            if number is not None:
                self._board.add_scalar(name, number, step)
        for name, value in crf.items() if full else ():
            if isinstance(value, Tensor):
                self._board.add_histogram(f"crf/{name}", value, step)
            else:
                self._board.add_scalar(f"crf/{name}", value, step)
        self._bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)

    def log_images(
        self,
        step: int,
        image: ImageBytes,
        labels: LabelMap,
        prediction: LabelMap,
        dataset: SegmentationDataset,
    ) -> None:
        """Log image, truth and prediction side by side, in the colors of ``dataset``, to TensorBoard."""
        palette = dataset.palette
        strip = torch.cat([as_rgb(image).cpu(), paint(labels, palette), paint(prediction, palette)], dim=2)
        self._board.add_image("image, truth, prediction", strip, step)

    def flush(self) -> None:
        """Flush the log to the disk, so that a checkpoint never has steps that the log lacks."""
        if not self.silent:
            os.fsync(self._log.fileno())


def _truncate(log: Path, step: int) -> None:
    """Keep the lines of ``log`` up to ``step``; drop a half-written last one."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        kept.append(f"{line}\n")
    write_atomically(log, "".join(kept).encode())
