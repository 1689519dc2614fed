"""The server of the page, for this machine and this person alone."""

import logging
import os
import secrets
import signal
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bokeh.application import Application
from bokeh.application.application import ServerContext, SessionContext
from bokeh.application.handlers import Handler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler, HTTPError

from crfnet.errors import InputError, require
from crfnet.explore.page import Page
from crfnet.explore.redraw import THREAD
from crfnet.explore.session import Session
from crfnet.segmenter import RefinementConfig

__all__ = ["MAX_PAGES", "address", "make_server", "serve"]

_LOG = logging.getLogger("crfnet")
_ADDRESS = "127.0.0.1"
MAX_PAGES = 8  #: open at a time; one that no browser shows any more is closed within seconds
_MAKE_PAGES = ("", "/", "/autoload.js")  #: paths that open a page each time they are asked for
_PATIENCE = 5.0  #: seconds from a signal to the end
_MAX_BYTES = 2**20  #: of what a page or anybody else sends at once


class _Pages(Handler):
    """Open a page for every tab; compute when its browser is there, and end its thread with the tab.

    Attributes:
        ended: no page is opened any more, however many were asked for before.
    """

    def __init__(self, session: Session, crf: RefinementConfig, source: str, folder: Path) -> None:
        super().__init__()
        self._arguments = session, crf, source, folder
        self._open: list[Page] = []
        self.ended = False

    @property
    def count(self) -> int:
        """The number of pages whose session has not ended."""
        return len(self._open)

    def modify_document(self, doc: Document) -> None:
        if self.ended or self.count >= MAX_PAGES:  # also of many that were asked for at the same moment
            raise HTTPError(503)
        page = Page(doc, *self._arguments)
        self._open.append(page)

        def close(session_context: SessionContext) -> None:
            self._open.remove(page)
            page.redraw.close()

        def begin(event: object) -> None:  # told through the websocket, by a browser that shows the page
            page.start()

        doc.on_session_destroyed(close)
        doc.on_event("document_ready", begin)

    def on_server_unloaded(self, server_context: ServerContext) -> None:
        for page in self._open:
            page.redraw.close()


class _Guarded(BokehTornado):
    """Answers requests to its own names only, so that no page of another name can ask through a browser.

    A name of somebody else may resolve to 127.0.0.1, and its pages then count as of the same origin: the
    name that they asked for is all that tells them from this page (DNS rebinding).
    """

    hosts: frozenset[str]
    pages: _Pages

    def find_handler(self, request: Any, **options: Any) -> Any:
        status = None
        if request.headers.get("Host", "").lower() not in self.hosts:
            status = 403
        elif self.pages.count >= MAX_PAGES and request.path.removeprefix(self.prefix) in _MAKE_PAGES:
            status = 503
        if status is None:
            return super().find_handler(request, **options)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": status})


def make_server(session: Session, crf: RefinementConfig, source: str, folder: Path, port: int) -> BaseServer:
    """Make a server, not started yet; every tab that opens its `address` gets a `Page` of the same session.

    It listens on 127.0.0.1, answers requests to that name, localhost and [::1] alone, and all that it serves,
    the websocket too, lies below a random path that only who started it knows.

    Args:
        session: what is shown.
        crf: where the sliders start.
        source: line that says what is shown.
        folder: below which parameters are saved.
        port: 1..65535, one that is free.

    Raises:
        InputError: the port is out of range or taken.
    """
    require("explore --port", port, 1 <= port <= 65535, "in 1..65535")
    hosts = frozenset(f"{host}:{port}" for host in (_ADDRESS, "localhost", "[::1]"))
    try:
        sockets, _ = bind_sockets(_ADDRESS, port)
    except OSError as error:
        raise InputError(f"explore --port: {port} cannot be used ({error.strerror}); try another") from error
    pages = _Pages(session, crf, source, folder)
    application = _Guarded(
        {"/": Application(pages)},
        prefix=secrets.token_urlsafe(32),
        extra_websocket_origins=sorted(hosts),
        websocket_max_message_size_bytes=_MAX_BYTES,
        check_unused_sessions_milliseconds=2_000,
        unused_session_lifetime_milliseconds=10_000,
    )
    application.hosts, application.pages = hosts, pages
    http = HTTPServer(application, max_body_size=_MAX_BYTES, max_header_size=2**16)
    http.add_sockets(sockets)
    return BaseServer(IOLoop.current(), application, http)


def address(server: BaseServer) -> str:
    """The address of the page; who has it may use it."""
    return f"http://{_ADDRESS}:{server.port}{server.prefix}/"


def serve(
    session: Session, crf: RefinementConfig, source: str, folder: Path, *, port: int, browser: bool
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        session: what is shown.
        crf: where the sliders start.
        source: line that says what is shown.
        folder: below which parameters are saved.
        port: of 127.0.0.1.
        browser: whether to open one.

    Raises:
        InputError: see `make_server`.
    """
    server = make_server(session, crf, source, folder, port)
    server.start()
    _LOG.info("%s shows the page; Ctrl-C ends it", address(server))
    if browser:
        server.io_loop.add_callback(webbrowser.open, address(server))

    def stop() -> None:
        server._tornado.pages.ended = True
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    with _stopped_by_signals(stop):
        server.io_loop.start()
        server.stop()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within, SIGTERM and Ctrl-C stop the loop between two callbacks; SIGTERM is passed on at the end.

    An exception raised wherever the loop happens to be may be swallowed there. Where the loop, or a picture
    of which no step can be stopped, takes longer than a few seconds, the process ends at once: Python would
    abort or wait. Nothing is lost by that, since parameters are saved as whole files. A second signal kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python takes no signals
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        came.append(number)
        watch = threading.Timer(_PATIENCE, os._exit, [_status(number)])
        watch.daemon = True
        watch.start()
        stop()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came and any(thread.name == THREAD for thread in threading.enumerate()):
        os._exit(_status(came[0]))
    if signal.SIGTERM in came:
        signal.raise_signal(signal.SIGTERM)


def _status(number: int) -> int:
    """The exit status after a signal: Ctrl-C is how the command ends."""
    return 0 if number == signal.SIGINT else 128 + number
