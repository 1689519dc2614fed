"""The thread between a page and its session: the newest wish first, those that it replaces never."""

import threading
from collections.abc import Callable

from crfnet.crf.layer import CRFConfig
from crfnet.explore.cached_filter import Canceled
from crfnet.explore.session import Picture, Session
from crfnet.files import one_line

__all__ = ["REST", "Redraw"]

REST = 0.1  #: seconds without a new wish after which the whole picture is begun


class Redraw:
    """Solves what was asked for last, away from the caller's thread: small at once, whole when wishes rest.

    A new wish ends the solution at full size of an older one, or keeps it from being begun.

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
        self._wanted: CRFConfig | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="crfnet-explore", daemon=True)
        self._thread.start()

    def ask(self, config: CRFConfig) -> None:
        """Wants the picture of this configuration now; returns at once."""
        with self._changed:
            self._wanted = config
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread, and waits until it has."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _superseded(self) -> bool:
        return self._closed or self._wanted is not None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._superseded)
                if self._closed or self._wanted is None:
                    return
                config, self._wanted = self._wanted, None
            try:
                self._solve(config)
            except Canceled:
                continue
            except (ValueError, RuntimeError, MemoryError) as error:  # the page lives on
                self._fail(one_line(error))

    def _solve(self, config: CRFConfig) -> None:
        first = self._session.first(config)
        self._show(first, first.factor > 1)
        if first.factor == 1:
            return
        with self._changed:
            if self._changed.wait_for(self._superseded, timeout=REST):
                raise Canceled
        full = self._session.full(first, self._superseded)
        self._show(first if full is None else full, False)
