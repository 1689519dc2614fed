"""Opens the database of a search; whatever is wrong with it is one line."""

import errno
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crfnet.errors import InputError
from crfnet.search.task_queue import StudyLocation, TaskQueue

if TYPE_CHECKING:
    import optuna

__all__ = ["open_study"]

_SETTINGS = "settings"
#: Seconds that SQLite waits for another process's write, and that a server is waited for.
_PATIENCE = {
    "sqlite": {"timeout": 60},
    "postgresql": {"connect_timeout": 10},
    "mysql": {"connect_timeout": 10},
}

_TRIES = 10  #: to open a database while other processes make its tables


@contextmanager
def open_study(
    where: StudyLocation, settings: Mapping[str, Any] | None, *, overwrite: bool = False
) -> Iterator[TaskQueue]:
    """Opens a search's studies, or makes them.

    Args:
        where: database and name.
        settings: everything that the result depends on, as JSON values; kept in the study. None to join one
            that is there.
        overwrite: forget what is there under that name.

    Raises:
        InputError: an unknown kind of database, one that cannot be reached or read, or one in which the
            search was begun under other settings (names the first key that differs).
        OSError: its disk is full, or it failed afterwards; what is finished is kept.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    troubles = (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError)
    place = _shown(where.url)
    with _without_chatter():
        try:
            storage = _storage(where.url)
            found = [_study(storage, name, overwrite) for name in (where.name, f"{where.name} work")]
        except troubles as error:
            if _disk_failed(error):
                raise _failure(place, error) from error
            raise InputError(f"{place}: {_reason(error)}") from error
        try:
            if settings is not None:
                _agree(found[0], json.loads(json.dumps(settings)), place)  # as it will read back
            yield TaskQueue(storage, found[0], found[1])
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _failure(place, error) from error
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _storage(url: str) -> "optuna.storages.RDBStorage":
    import optuna
    from sqlalchemy import make_url
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    patience = _PATIENCE.get(make_url(url).get_backend_name(), {})
    for _ in range(_TRIES):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": dict(patience)})
        except SQLAlchemyError as error:
            if "exist" not in str(error) and not isinstance(error, IntegrityError):
                raise
            time.sleep(0.2)  # another process was making the same tables
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": dict(patience)})


def _study(storage: "optuna.storages.RDBStorage", name: str, overwrite: bool) -> "optuna.Study":
    import optuna

    if overwrite and name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _agree(study: "optuna.Study", settings: Mapping[str, Any], place: str) -> None:
    """Writes the settings into a new study; refuses an old one with others."""
    there = study.user_attrs.get(_SETTINGS)
    if there is None:
        study.set_user_attr(_SETTINGS, settings)
        return
    for key in [*settings, *(k for k in there if k not in settings)]:
        if there.get(key) != settings.get(key):
            raise InputError(
                f"{place}: was made with {key} = {_short(there.get(key))}, "
                f"now it is {_short(settings.get(key))}; keep it, or give another --output or --overwrite"
            )


def _shown(url: str) -> str:
    """The database for messages: the file of SQLite, the URL of others without its password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except ArgumentError:
        return f"search.storage {url!r}"
    if parts.get_backend_name() == "sqlite" and parts.database:
        return parts.database
    return f"search.storage {parts.render_as_string(hide_password=True)}"


def _reason(error: Exception) -> str:
    from sqlalchemy.exc import ArgumentError, OperationalError

    if isinstance(error, ImportError):
        return "its driver is not installed; for PostgreSQL: pip install 'crfnet[postgresql]'"
    if isinstance(error, ArgumentError):  # also unknown dialects
        return (
            f"no database's URL ({_line(error)}); expected e.g. sqlite:///study.db or "
            "postgresql+psycopg://user:password@host/name"
        )
    if isinstance(error, OperationalError):
        return f"cannot be opened ({_line(error)})"
    return f"not an Optuna study ({_line(error)}); give another --output or --overwrite"


def _failure(place: str, error: Exception) -> Exception:
    """An `OSError` where disk or server failed; bad input where SQLite's file is damaged."""
    said = f"the database failed ({_line(error)}); the same command with --resume goes on"
    if "sqlite" in f"{error} {error.__cause__}" and not _disk_failed(error):
        return InputError(f"{place}: {said}")
    return OSError(errno.EIO, said, place)


def _disk_failed(error: Exception) -> bool:
    said = f"{error} {error.__cause__}"
    return "disk is full" in said or "disk I/O error" in said or "is locked" in said


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
