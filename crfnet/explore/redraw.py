"""The thread between a page and its session: solves the latest request, and skips those it replaced."""

import threading
from collections.abc import Callable

from crfnet.explore.canceling import Canceled, Stop
from crfnet.explore.session import Picture, Session
from crfnet.files import one_line
from crfnet.segmenter import RefinementConfig

__all__ = ["REST", "THREAD", "Redraw"]

THREAD = "crfnet-explore"  #: its name

_PATIENCE = 2.0  #: seconds to wait for the end of the thread
REST = 0.1  #: seconds without a new request after which the picture at full size is begun


class Redraw:
    """Solves the latest request in a thread of its own: a preview at once, full size when no request follows.

    A new request cancels the solution at full size of an older one, or keeps it from being begun.

    Args:
        session: what solves.
        show: called from the thread with each picture, and whether a larger one follows.
        fail: called from the thread with the line that says why there is no picture.
    """

    def __init__(
        self,
        session: Session,
        show: Callable[[Picture, bool], None],
        fail: Callable[[str], None],
    ) -> None:
        self._session, self._show, self._fail = session, show, fail
        self._wanted: RefinementConfig | None = None
        self._closed = False
        self._outdated = Stop()  # what is being solved
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def request(self, config: RefinementConfig) -> None:
        """Request the picture of this configuration; returns at once. The first request starts the thread."""
        with self._changed:
            if self._closed:
                return
            self._wanted = config
            self._outdated.set()
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread, and wait until it has ended; not for long, where a step cannot be stopped."""
        with self._changed:
            self._closed = True
            self._outdated.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _is_outdated(self) -> bool:
        return self._closed or self._wanted is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_outdated)
                if self._closed or self._wanted is None:
                    return
                config, self._wanted = self._wanted, None
                self._outdated.clear()
            try:
                self._solve(config)
            except Canceled:
                continue
            except (ValueError, RuntimeError, MemoryError) as error:  # the page lives on
                self._fail(one_line(error))

    def _solve(self, config: RefinementConfig) -> None:
        first = self._session.preview(config)
        self._show(first, first.factor > 1)
        if first.factor == 1:
            return
        with self._changed:
            if self._changed.wait_for(self._is_outdated, timeout=REST):
                raise Canceled
        full = self._session.full_size(first, self._outdated)
        self._show(first if full is None else full, False)
