"""How kernels are compiled, and where compiled code is kept.

numba's own cache watches the file of the cached function alone, although code of other files is compiled into
it. Here one folder of the user's cache belongs to one state of all sources, so that none of it is ever stale;
where the user has no home, a folder of his own among the temporary ones serves, and where nothing can be
written, code is compiled in each process.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import types
from numba.core import caching

__all__ = ["entry", "inline", "kernel", "making_arrays"]

_OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
_INNER = _OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # Python does not call these
_UNCOUNTED = _INNER | {"_nrt": False}


def kernel(function: Callable[..., Any]) -> Any:
    """A function that compiled code calls; it makes no arrays, so arrays are not counted in and out of it."""
    return _of_types(numba.njit(**_UNCOUNTED)(function))


def making_arrays(function: Callable[..., Any]) -> Any:
    """A function that compiled code calls, and that may make arrays."""
    return _of_types(numba.njit(**_INNER)(function))


def inline(function: Callable[..., Any]) -> Any:
    """A `kernel` that becomes part of whatever calls it."""
    return _of_types(numba.njit(forceinline=True, **_UNCOUNTED)(function))


def _of_types(dispatcher: Any) -> Any:
    """The function compiled once for each set of types, and not anew for each constant that it is given."""
    template = dispatcher.get_call_template

    def without_constants(args, kws):
        return template(
            tuple(types.unliteral(each) for each in args),
            {name: types.unliteral(each) for name, each in kws.items()},
        )

    dispatcher.get_call_template = without_constants
    return dispatcher


def entry(function: Callable[..., Any]) -> Any:
    """A function that Python calls: compiled once per user, and for each precision."""
    dispatcher = numba.njit(**_OPTIONS)(function)
    if _folder() is not None:
        dispatcher._cache = _Cache(function)
    return dispatcher


@cache
def _folder() -> Path | None:
    """The first writable folder for the code that these sources give; None without any."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    state = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode())
    for source in sources:
        state.update(source.read_bytes())
    for parent in _parents():
        folder = parent / "crfnet" / state.hexdigest()[:20]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None


def _parents() -> list[Path]:
    given = os.environ.get("NUMBA_CACHE_DIR")
    parents = [Path(given)] if given else []
    try:
        home = Path.home()
    except RuntimeError:  # nobody's home
        return [*parents, *_temporary()]
    if sys.platform == "win32":
        return [*parents, Path(os.environ.get("LOCALAPPDATA", home))]
    if sys.platform == "darwin":
        return [*parents, home / "Library" / "Caches", *_temporary()]
    return [*parents, Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache"), *_temporary()]


def _temporary() -> list[Path]:
    """This user's folder among the temporary ones; none where others could write code that runs here."""
    if not hasattr(os, "getuid"):
        return []
    user = os.getuid()
    try:
        folder = Path(tempfile.gettempdir(), f"crfnet-{user}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return []
    alone = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077
    return [folder] if alone else []


class _Locator(caching._CacheLocator):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(_folder())

    def get_source_stamp(self) -> str:
        return ""  # the folder's name is the stamp

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func)


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes: Any = (_Locator,)


class _Cache(caching.FunctionCache):
    """Code that cannot be read or written is as good as none."""

    _impl_class = _CacheImpl

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError):
            return None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
