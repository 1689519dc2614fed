"""Opens the database of a search; every failure is an error message of one line."""

import errno
import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.config.nested import differing
from crfnet.errors import InputError
from crfnet.files import check_type, regular, why
from crfnet.search.task_queue import StudyLocation, TaskQueue

if TYPE_CHECKING:
    import optuna

__all__ = ["check_storage", "open_study"]

_SETTINGS_ATTRIBUTE = "settings"
#: Seconds to wait: SQLite for another process's write, the others for the server.
_CONNECT_ARGS = {
    "sqlite": {"timeout": 60},
    "postgresql": {"connect_timeout": 10},
    "mysql": {"connect_timeout": 10},
}

_MAX_ATTEMPTS = 10  #: to open a database while other processes create its tables


@contextmanager
def open_study(
    location: StudyLocation,
    settings: Mapping[str, Any] | None,
    *,
    overwrite: bool = False,
    begun: bool = False,
) -> Iterator[TaskQueue]:
    """Open a search's studies, or create them.

    Args:
        location: database and name.
        settings: everything that the result depends on, as JSON values; stored in the study. None to join
            an existing one.
        overwrite: delete what is stored under that name.
        begun: it must be there, because what it found is in the folder.

    Raises:
        InputError: an unknown kind of database, one that cannot be reached or read, or one in which the
            search was started with other settings (names the first key that differs) or, though ``begun``,
            never.
        OSError: its disk is full, or it failed later; finished tasks are kept.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    place = _display_name(location.url)
    with _quiet_optuna():
        try:
            storage = _open_storage(location.url)
            studies = _open_studies(storage, location, overwrite=overwrite, begun=begun)
            queue = TaskQueue(storage, *studies)
            queue.check()
            stored = studies[0].user_attrs.get(_SETTINGS_ATTRIBUTE, {})
            check_type(stored, dict[str, Any], _SETTINGS_ATTRIBUTE)
        except InputError:
            raise
        except Exception as error:  # of a damaged file, whatever its rows lead Optuna to
            if _is_disk_failure(error):
                raise _failure(place, error) from error
            raise InputError(f"{place}: {_explain(error)}") from error
        try:
            if settings is not None:
                _check_settings(studies[0], json.loads(json.dumps(settings)), place)  # as it will read back
            yield queue
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _failure(place, error) from error
        except Exception as error:
            if not _is_of_optuna(error):
                raise
            raise InputError(f"{place}: {_explain(error)}") from error
        finally:
            storage.remove_session()
            storage.engine.dispose()


def check_storage(url: str) -> None:
    """Refuse a database that `open_study` could not open."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _quiet_optuna():
            storage = _open_storage(url)
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError, OSError) as error:
        raise InputError(f"{_display_name(url)}: {_explain(error)}") from error
    storage.remove_session()
    storage.engine.dispose()


def _open_storage(url: str) -> "optuna.storages.RDBStorage":
    import optuna
    from sqlalchemy import make_url
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    name = make_url(url).get_backend_name()
    database = make_url(url).database
    if name == "sqlite" and database and Path(database).exists():
        regular(Path(database))
    connect_args = _CONNECT_ARGS.get(name, {})
    for _ in range(_MAX_ATTEMPTS):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": dict(connect_args)})
        except SQLAlchemyError as error:
            if "exist" not in str(error) and not isinstance(error, IntegrityError):
                raise
            time.sleep(0.2)  # another process was creating the same tables
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": dict(connect_args)})


def _open_studies(
    storage: "optuna.storages.RDBStorage", location: StudyLocation, *, overwrite: bool, begun: bool
) -> "list[optuna.Study]":
    import optuna

    if begun and location.name not in optuna.get_all_study_names(storage):
        raise InputError(
            f"{_display_name(location.url)}: holds no search {location.name!r}, so what is in the folder is "
            "another's; give its --search.study, --overwrite or another --output"
        )
    return [_open_study(storage, name, overwrite) for name in (location.name, f"{location.name} tasks")]


def _open_study(storage: "optuna.storages.RDBStorage", name: str, overwrite: bool) -> "optuna.Study":
    import optuna

    if overwrite and name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _check_settings(study: "optuna.Study", settings: Mapping[str, Any], place: str) -> None:
    """Write the settings into a new study; refuse an existing one with others."""
    stored = study.user_attrs.get(_SETTINGS_ATTRIBUTE)
    if stored is None:
        study.set_user_attr(_SETTINGS_ATTRIBUTE, settings)
        return
    for key in differing(settings, stored):
        raise InputError(
            f"{place}: was created with {key} = {_truncate(stored.get(key))}, "
            f"now it is {_truncate(settings.get(key))}; keep it, or give another --output (in a database of "
            "several searches another --search.study) or --overwrite"
        )


def _display_name(url: str) -> str:
    """Name of the database in messages: the file of SQLite, the URL of others without its password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except ArgumentError:
        return f"search.storage {url!r}"
    if parts.get_backend_name() == "sqlite" and parts.database:
        return parts.database
    return f"search.storage {parts.render_as_string(hide_password=True)}"


def _is_of_optuna(error: Exception) -> bool:
    """Whether Optuna or its database raised it: of rows that are damaged in ways that show late."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1]).startswith(("optuna.", "sqlalchemy.", "json."))


def _explain(error: Exception) -> str:
    from sqlalchemy.exc import ArgumentError, OperationalError

    line = _first_line(error)
    reasons: list[tuple[type[Exception], str]] = [
        (ImportError, "its driver is not installed; for PostgreSQL: pip install 'crfnet[postgresql]'"),
        (
            ArgumentError,  # also unknown dialects
            f"not a database URL ({line}), must be e.g. sqlite:///study.db or "
            "postgresql+psycopg://user:password@host/name",
        ),
        (OSError, why(error)),
        (OperationalError, f"cannot be opened ({line})"),
    ]
    other = f"not an Optuna study ({line}); give another --output or --overwrite"
    return next((reason for kind, reason in reasons if isinstance(error, kind)), other)


def _failure(place: str, error: Exception) -> Exception:
    """An `OSError` where disk or server failed; bad input where SQLite's file is damaged."""
    message = f"the database failed ({_first_line(error)}); continue with the same command and --resume"
    if "sqlite" in f"{error} {error.__cause__}" and not _is_disk_failure(error):
        return InputError(f"{place}: {message}")
    return OSError(errno.EIO, message, place)


def _is_disk_failure(error: Exception) -> bool:
    message = f"{error} {error.__cause__}"
    return "disk is full" in message or "disk I/O error" in message or "is locked" in message


def _first_line(error: BaseException) -> str:
    return f"{(str(error).splitlines() or [type(error).__name__])[0]:.200}"


def _truncate(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna's messages on opening a study from the progress bar; warnings still show."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
