"""What is finished and who works on what: two Optuna studies in one database, SQLite or shared.

The study of the search's name holds the points as trials: parameters, score, round. The study ``<name> work``
holds the pieces of work, of groups of points on blocks of images: a running trial is a claim, a complete one
a result. A kill loses the pieces that were being worked on, nothing else.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crfnet.errors import InputError
from crfnet.files import one_line
from crfnet.search.counting import Counted
from crfnet.search.grid import AXES, Point
from crfnet.search.heartbeat import Watch, beating, gone, this_process

if TYPE_CHECKING:
    import optuna

__all__ = ["STUDY_FILE", "TaskResult", "TaskQueue", "Task", "StudyLocation"]

STUDY_FILE = "study.db"
_LONGEST = 60_000  #: characters of one attribute; MySQL stores 65,535 bytes


class StudyLocation(NamedTuple):
    """A search's place: the database's URL, and its name there."""

    url: str
    name: str

    @classmethod
    def of(cls, folder: Path, storage: str, name: str) -> "StudyLocation":
        """In `storage`, or if that is empty in the SQLite file of `folder`."""
        return cls(storage or f"sqlite:///{(folder / STUDY_FILE).resolve()}", name)


class Task(NamedTuple):
    """A piece of work: some points on the images `start` to `stop` of the order of visit."""

    points: tuple[Point, ...]
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Its name in the database, the same in every process."""
        points = " ".join("/".join(f"{value:.9g}" for value in point) for point in self.points)
        return f"images {self.start}-{self.stop}: {points}"


@dataclass(frozen=True)
class TaskResult:
    """What came out of a unit: of each point what was counted, and the seconds that all took together."""

    counted: tuple[Counted, ...]
    seconds: float

    def encode(self) -> dict[str, str]:
        """As attributes of a trial, each short enough for any database."""
        points = [counted.encode() for counted in self.counted]
        text = json.dumps({"seconds": self.seconds, "points": points})
        pieces = [text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)]
        return {f"outcome.{i}": piece for i, piece in enumerate(pieces)}

    @classmethod
    def decode(cls, attributes: Mapping[str, Any]) -> "TaskResult":
        """What `encode` made, among other attributes."""
        names = map("outcome.{}".format, itertools.count())
        pieces = (attributes[name] for name in itertools.takewhile(attributes.__contains__, names))
        content = json.loads("".join(pieces))
        return cls(tuple(map(Counted.decode, content["points"])), content["seconds"])


class TaskQueue:
    """The finished units, in memory and in the database, and the claims on the others.

    Attributes:
        finished: by the unit's key; `refresh` adds what others have finished.
    """

    def __init__(
        self, storage: "optuna.storages.RDBStorage", points: "optuna.Study", work: "optuna.Study"
    ) -> None:
        self._storage, self._points, self._work = storage, points, work
        self._work_id = storage.get_study_id_from_name(work.study_name)
        self._watch = Watch()
        self._me = this_process()
        self._read: set[int] = set()
        self.finished: dict[str, TaskResult] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads what has been finished since."""
        for trial in self._trials("COMPLETE"):
            if trial.number not in self._read:
                self._read.add(trial.number)
                try:
                    unit, outcome = trial.user_attrs["unit"], TaskResult.decode(trial.user_attrs)
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"search {self._points.study_name!r}: what is kept of trial {trial.number} cannot be "
                        f"read ({one_line(error)}); give another --output or --overwrite"
                    ) from error
                # Two processes may have done the same where one was thought dead: the first counts.
                self.finished.setdefault(unit, outcome)

    def claim(self, unit: Task) -> int | None:
        """The number of a new claim on `unit`, or None: it is finished or another process is at it."""
        import optuna

        state = optuna.trial.TrialState
        if unit.key in self.finished or self._taken(unit):
            return None
        attributes = {"unit": unit.key, "owner": self._me, "beat": 0}
        mine = self._storage.create_new_trial(
            self._work_id, optuna.trial.create_trial(state=state.RUNNING, user_attrs=attributes)
        )
        # The database puts claims in an order: of two at the same moment, the first holds.
        for trial in self._trials("COMPLETE", "RUNNING"):
            if trial.user_attrs["unit"] == unit.key and trial._trial_id < mine:
                self._storage.set_trial_state_values(mine, state.FAIL)
                return None
        return mine

    @contextmanager
    def at_work(self, claim: int) -> Iterator[None]:
        """Shows signs of life within; an error gives the claim back."""
        import optuna

        def show(beat: int) -> None:
            self._storage.set_trial_user_attr(claim, "beat", beat)

        try:
            with beating(show, self._storage.remove_session):
                yield
        except BaseException:
            self._end(claim, optuna.trial.TrialState.FAIL)
            raise

    def finish(self, claim: int, unit: Task, outcome: TaskResult) -> None:
        """Keeps the outcome of a claimed unit; it is in the database, whole, when this returns."""
        import optuna

        for name, text in outcome.encode().items():
            self._set(claim, name, text)
        self._end(claim, optuna.trial.TrialState.COMPLETE, [float(len(unit.points))])
        self.refresh()

    def publish(self, rows: Sequence[tuple[Point, float | None, Mapping[str, Any]]]) -> None:
        """Writes points as trials that Optuna's tools show: complete with a score, pruned without.

        One process of all that share the search does it; points that are there already are left alone.
        """
        unit = Task((), 0, 0)
        claim = self.claim(unit)
        if claim is not None:
            with self.at_work(claim):
                self._publish(rows)
                self.finish(claim, unit, TaskResult((), 0.0))

    def _publish(self, rows: Sequence[tuple[Point, float | None, Mapping[str, Any]]]) -> None:
        import optuna
        from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

        states = optuna.trial.TrialState
        there = {
            tuple(trial.params[axis] for axis in AXES) for trial in self._points.get_trials(deepcopy=False)
        }
        ranges: dict[str, BaseDistribution] = {axis: FloatDistribution(0.0, 1e6) for axis in AXES[:-1]}
        ranges[AXES[-1]] = IntDistribution(0, 10**6)
        for point, score, facts in rows:
            if tuple(point) not in there:
                self._points.add_trial(
                    optuna.trial.create_trial(
                        params=point._asdict(),
                        distributions=ranges,
                        value=score,
                        state=states.PRUNED if score is None else states.COMPLETE,
                        user_attrs=dict(facts),
                    )
                )

    def _taken(self, unit: Task) -> bool:
        """Whether a process that lives has claimed `unit`; claims of the dead are given back."""
        import optuna

        taken = False
        for trial in self._trials("RUNNING"):
            if trial.user_attrs["unit"] != unit.key:
                continue
            owner, beat = trial.user_attrs["owner"], trial.user_attrs["beat"]
            mine = owner == self._me  # of an earlier search in this process, which was interrupted
            if mine or gone(owner) or self._watch.expired(trial._trial_id, beat):
                self._end(trial._trial_id, optuna.trial.TrialState.FAIL)
            else:
                taken = True
        return taken

    def _trials(self, *states: str) -> "list[optuna.trial.FrozenTrial]":
        import optuna

        wanted = tuple(optuna.trial.TrialState[state] for state in states)
        return list(self._work.get_trials(deepcopy=False, states=wanted))

    def _set(self, claim: int, name: str, value: Any) -> None:
        """Sets an attribute, unless the claim was taken away: then another process does the work."""
        import optuna

        try:
            self._storage.set_trial_user_attr(claim, name, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            logging.getLogger(__name__).warning("search: a claim had expired; its work is done again")

    def _end(self, claim: int, state: "optuna.trial.TrialState", values: list[float] | None = None) -> None:
        import optuna

        try:
            self._storage.set_trial_state_values(claim, state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another process was faster
