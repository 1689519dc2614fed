"""The tasks of a search, their results and who works on them: two Optuna studies in one database.

The study of the search's name holds the points as trials: parameters, criterion, round. The study ``<name>
tasks`` holds the tasks, each some points on a block of images: a running trial is a claim, a complete one a
result. A killed process loses the tasks that it was working on, nothing else.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from crfnet.errors import InputError
from crfnet.files import check_fields, check_type, one_line
from crfnet.search.counting import PointCounts
from crfnet.search.grid import AXES, LARGEST, Point
from crfnet.search.heartbeat import HeartbeatMonitor, process_ended, process_identity, send_heartbeats

if TYPE_CHECKING:
    import optuna

__all__ = ["STUDY_FILE", "TaskResult", "TaskQueue", "Task", "StudyLocation"]

STUDY_FILE = "study.db"
_MAX_ATTRIBUTE_LENGTH = 60_000  #: characters of one attribute; MySQL stores 65,535 bytes


_AGAIN = "give another --output or --overwrite"


class _TaskAttributes(TypedDict, total=False):
    """What a trial of the tasks' study holds beside results."""

    task: str  #: its key
    owner: str  #: the process that claimed it
    heartbeat: int


class StudyLocation(NamedTuple):
    """Where a search is stored: the database's URL, and the study's name there."""

    url: str
    name: str

    @classmethod
    def in_folder(cls, folder: Path, storage: str, name: str) -> "StudyLocation":
        """Use `storage`, or if that is empty the SQLite file of `folder`, whatever its path."""
        from sqlalchemy import URL

        file = URL.create("sqlite", database=str((folder / STUDY_FILE).resolve()))
        return cls(storage or file.render_as_string(hide_password=False), name)


class Task(NamedTuple):
    """Some points to evaluate on the images `start` to `stop` of the evaluation order."""

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
    """The counts of each point of a task, and the seconds that the whole task took."""

    counts: tuple[PointCounts, ...]
    seconds: float

    def encode(self) -> dict[str, str]:
        """Serialize to attributes of a trial, each short enough for any database."""
        points = [counts.encode() for counts in self.counts]
        text = json.dumps({"seconds": self.seconds, "points": points})
        starts = range(0, len(text), _MAX_ATTRIBUTE_LENGTH)
        pieces = [text[i : i + _MAX_ATTRIBUTE_LENGTH] for i in starts]
        return {f"result.{i}": piece for i, piece in enumerate(pieces)}

    @classmethod
    def decode(cls, attributes: Mapping[str, Any]) -> "TaskResult":
        """Invert `encode`; other attributes are ignored."""
        names = map("result.{}".format, itertools.count())
        pieces = (attributes[name] for name in itertools.takewhile(attributes.__contains__, names))
        content = json.loads("".join(pieces))
        check_type(content["seconds"], float, "seconds")
        return cls(tuple(map(PointCounts.decode, content["points"])), content["seconds"])

    def fits(self, task: Task, num_classes: int) -> bool:
        """Whether it can be that of a task: of its points and images, over so many classes."""
        shape = (1, task.stop - task.start, num_classes, num_classes)
        return len(self.counts) == len(task.points) and all(
            counts.confusion.shape == shape and counts.criterion.shape[:2] == shape[:2]
            for counts in self.counts
        )


class TaskQueue:
    """The finished tasks, in memory and in the database, and the claims on the others.

    Attributes:
        finished: results by the task's key; `refresh` adds those of other processes.
    """

    def __init__(
        self, storage: "optuna.storages.RDBStorage", points: "optuna.Study", tasks: "optuna.Study"
    ) -> None:
        self._storage, self._point_study, self._task_study = storage, points, tasks
        self._task_study_id = storage.get_study_id_from_name(tasks.study_name)
        self._monitor = HeartbeatMonitor()
        self._owner = process_identity()
        self._trials_read: set[int] = set()
        self.finished: dict[str, TaskResult] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the results that were stored since the last call."""
        for trial in self._task_trials("COMPLETE"):
            if trial.number not in self._trials_read:
                self._trials_read.add(trial.number)
                try:
                    key, result = trial.user_attrs["task"], TaskResult.decode(trial.user_attrs)
                except Exception as error:  # of JSON, base64, zlib and shapes
                    raise self._unreadable(trial.number, one_line(error)) from error
                # Two processes may have done the same task where one was thought dead: the first counts.
                self.finished.setdefault(key, result)

    def result(self, task: Task, num_classes: int) -> TaskResult:
        """The result of a finished task.

        Raises:
            InputError: what the database holds under its name is that of another one.
        """
        result = self.finished[task.key]
        if not result.fits(task, num_classes):
            raise InputError(
                f"search {self._point_study.study_name!r}: the result of {task.key[:60]} is damaged; {_AGAIN}"
            )
        return result

    def check(self) -> None:
        """Read all that is there once.

        Raises:
            ValueError: a trial holds what this class did not write; other exceptions where it cannot be read.
        """
        for trial in self._task_study.get_trials(deepcopy=False):
            check_type(trial.number, int, "number")
            check_fields({"task": None, **trial.user_attrs}, _TaskAttributes)
        for trial in self._point_study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                check_type({name: trial.params[name] for name in AXES}, dict[str, float], "params")

    def _unreadable(self, number: int, reason: str) -> InputError:
        name = self._point_study.study_name
        return InputError(
            f"search {name!r}: the result in trial {number} cannot be read ({reason}); {_AGAIN}"
        )

    def claim(self, task: Task) -> int | None:
        """Claim `task`; None if it is finished or another process works on it.

        Returns:
            The claim's id, for `heartbeat` and `finish`.
        """
        import optuna

        state = optuna.trial.TrialState
        if task.key in self.finished or self._is_claimed(task):
            return None
        attributes = {"task": task.key, "owner": self._owner, "heartbeat": 0}
        own = self._storage.create_new_trial(
            self._task_study_id, optuna.trial.create_trial(state=state.RUNNING, user_attrs=attributes)
        )
        # The database puts claims in an order: of two at the same moment, the first holds.
        for trial in self._task_trials("COMPLETE", "RUNNING"):
            if trial.user_attrs["task"] == task.key and trial._trial_id < own:
                self._storage.set_trial_state_values(own, state.FAIL)
                return None
        return own

    @contextmanager
    def heartbeat(self, claim: int) -> Iterator[None]:
        """Send heartbeats for a claim while the context is open; an error releases the claim."""
        import optuna

        def send(count: int) -> None:
            self._storage.set_trial_user_attr(claim, "heartbeat", count)

        try:
            with send_heartbeats(send, self._storage.remove_session):
                yield
        except BaseException:
            self._close_claim(claim, optuna.trial.TrialState.FAIL)
            raise

    def finish(self, claim: int, task: Task, result: TaskResult) -> None:
        """Store the result of a claimed task; it is in the database, complete, when this returns."""
        import optuna

        for name, text in result.encode().items():
            self._set_attribute(claim, name, text)
        self._close_claim(claim, optuna.trial.TrialState.COMPLETE, [float(len(task.points))])
        self.refresh()

    def publish_trials(self, trials: Sequence[tuple[Point, float | None, Mapping[str, Any]]]) -> None:
        """Write points as trials that Optuna's tools show: complete with a value, pruned without.

        One process of all that share the search does it; points that are there already are left alone.

        Args:
            trials: (point, the criterion or None, attributes).
        """
        task = Task((), 0, 0)
        claim = self.claim(task)
        if claim is not None:
            with self.heartbeat(claim):
                self._add_trials(trials)
                self.finish(claim, task, TaskResult((), 0.0))

    def _add_trials(self, trials: Sequence[tuple[Point, float | None, Mapping[str, Any]]]) -> None:
        import optuna
        from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

        states = optuna.trial.TrialState
        existing = {
            tuple(trial.params[axis] for axis in AXES)
            for trial in self._point_study.get_trials(deepcopy=False)
        }
        ranges: dict[str, BaseDistribution] = {axis: FloatDistribution(0.0, LARGEST) for axis in AXES[:-1]}
        ranges[AXES[-1]] = IntDistribution(0, 10**6)
        for point, value, attributes in trials:
            if tuple(point) not in existing:
                self._point_study.add_trial(
                    optuna.trial.create_trial(
                        params=point._asdict(),
                        distributions=ranges,
                        value=value,
                        state=states.PRUNED if value is None else states.COMPLETE,
                        user_attrs=dict(attributes),
                    )
                )

    def _is_claimed(self, task: Task) -> bool:
        """Whether a running process has claimed `task`; claims of dead ones are released."""
        import optuna

        claimed = False
        for trial in self._task_trials("RUNNING"):
            if trial.user_attrs["task"] != task.key:
                continue
            owner, count = trial.user_attrs["owner"], trial.user_attrs["heartbeat"]
            own = owner == self._owner  # of an earlier search in this process, which was interrupted
            if own or process_ended(owner) or self._monitor.expired(trial._trial_id, count):
                self._close_claim(trial._trial_id, optuna.trial.TrialState.FAIL)
            else:
                claimed = True
        return claimed

    def _task_trials(self, *states: str) -> "list[optuna.trial.FrozenTrial]":
        import optuna

        wanted = tuple(optuna.trial.TrialState[state] for state in states)
        return list(self._task_study.get_trials(deepcopy=False, states=wanted))

    def _set_attribute(self, claim: int, name: str, value: Any) -> None:
        """Set an attribute, unless the claim has expired: then another process does the task."""
        import optuna

        try:
            self._storage.set_trial_user_attr(claim, name, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            logging.getLogger(__name__).warning("search: a claim had expired; its task is done again")

    def _close_claim(
        self, claim: int, state: "optuna.trial.TrialState", values: list[float] | None = None
    ) -> None:
        import optuna

        try:
            self._storage.set_trial_state_values(claim, state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another process was faster
