"""Where finished points are kept: an Optuna study in SQLite, one trial a point; a kill loses none of them."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.confusion import metrics
from crfnet.search.grid import AXES, Point, SearchConfig

if TYPE_CHECKING:
    import optuna

__all__ = ["STUDY_FILE", "Scored", "Study", "open_study"]

STUDY_FILE = "study.db"
STUDY_NAME = "crfnet-search"
_SETTINGS = "settings"


@dataclass(frozen=True)
class Scored:
    """One finished point.

    Attributes:
        round: the round that scored it, from 1.
        point: its parameters.
        confusion: (l, l) pixel counts over all images, rows truth, columns prediction.
        seconds: wall time of its group, divided by the group's number of points.
    """

    round: int
    point: Point
    confusion: Int[Tensor, "l l"]
    seconds: float

    @property
    def miou(self) -> float:
        """Mean IoU of the one confusion matrix, 0..1: the criterion."""
        return float(metrics(self.confusion).miou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right, 0..1."""
        return float(metrics(self.confusion).pixel_accuracy)


class Study:
    """The finished points, in memory and on disk.

    Attributes:
        finished: every point scored so far.
    """

    def __init__(self, study: "optuna.Study", config: SearchConfig) -> None:
        from optuna.distributions import BaseDistribution, FloatDistribution

        self._study = study
        # Finer rounds reach less than one coarse step beyond the coarse values, and stay above 0.
        self._ranges: dict[str, BaseDistribution] = {
            axis: FloatDistribution(0.0, 2 * max(getattr(config, axis))) for axis in AXES
        }
        self.finished: dict[Point, Scored] = {}
        for trial in study.get_trials(deepcopy=False):
            scored = _scored(trial.params, trial.user_attrs)
            self.finished[scored.point] = scored

    def tell(self, scored: Scored) -> None:
        """Keeps one finished point; it is on disk, whole, when this returns."""
        from optuna.trial import create_trial

        self._study.add_trial(
            create_trial(
                params=scored.point._asdict(),
                distributions=self._ranges,
                value=scored.miou,
                user_attrs={
                    "confusion": scored.confusion.tolist(),
                    "seconds": scored.seconds,
                    "round": scored.round,
                },
            )
        )
        self.finished[scored.point] = scored


@contextmanager
def open_study(folder: Path, config: SearchConfig, settings: Mapping[str, Any]) -> Iterator[Study]:
    """Opens the study of `folder`, or makes it.

    Args:
        folder: holds, or will hold, `study.db`.
        config: what is searched.
        settings: everything that the result depends on, as JSON values; kept in the study.

    Raises:
        InputError: the file is no study, or was made under other settings (names the first key that differs).
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    path = folder / STUDY_FILE
    settings = json.loads(json.dumps(settings))  # as it will read back: tuples become lists
    with _without_chatter():
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
        except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
            raise InputError(
                f"{path}: not an Optuna study in SQLite; choose another folder, or overwrite"
            ) from error
        try:
            study = optuna.create_study(
                storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True
            )
            _agree(study, settings, path)
            yield Study(study, config)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _agree(study: "optuna.Study", settings: Mapping[str, Any], path: Path) -> None:
    """Writes the settings into a new study; refuses an old one with others."""
    there = study.user_attrs.get(_SETTINGS)
    if there is None:
        study.set_user_attr(_SETTINGS, settings)
        return
    for key in [*settings, *(k for k in there if k not in settings)]:
        if there.get(key) != settings.get(key):
            raise InputError(
                f"{path}: was made with {key} = {_short(there.get(key))}, "
                f"now it is {_short(settings.get(key))}; keep it, overwrite, or choose another folder"
            )


def _scored(params: Mapping[str, float], attributes: Mapping[str, Any]) -> Scored:
    return Scored(
        round=attributes["round"],
        point=Point(*(params[axis] for axis in AXES)),
        confusion=torch.tensor(attributes["confusion"], dtype=torch.int64),
        seconds=attributes["seconds"],
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Optuna reports the opening of a study on stderr, across our progress bar. Warnings still show."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
