"""The server of the page, for this machine alone."""

import logging

from bokeh.application import Application
from bokeh.application.application import ServerContext, SessionContext
from bokeh.application.handlers import Handler
from bokeh.document import Document
from bokeh.server.server import Server

from crfnet.crf.layer import CRFConfig
from crfnet.errors import InputError, require
from crfnet.explore.page import Page
from crfnet.explore.session import Session

__all__ = ["make_server", "serve"]

_LOG = logging.getLogger("crfnet")
_ADDRESS = "127.0.0.1"


class _Pages(Handler):
    """Open a page for every tab, and end its thread with the tab or with the server."""

    def __init__(self, session: Session, crf: CRFConfig, source: str) -> None:
        super().__init__()
        self._session, self._crf, self._source = session, crf, source
        self._open: list[Page] = []

    def modify_document(self, doc: Document) -> None:
        page = Page(doc, self._session, self._crf, self._source)
        self._open.append(page)

        def close(session_context: SessionContext) -> None:
            self._open.remove(page)
            page.redraw.close()

        doc.on_session_destroyed(close)

    def on_server_unloaded(self, server_context: ServerContext) -> None:
        for page in self._open:
            page.redraw.close()


def make_server(session: Session, crf: CRFConfig, source: str, port: int) -> Server:
    """Make a server, not started yet; every tab that opens it gets a `Page` of the same session.

    It listens on 127.0.0.1 and takes orders from pages of its own address only.

    Args:
        session: what is shown.
        crf: where the sliders start.
        source: line that says what is shown.
        port: 1..65535, one that is free.

    Raises:
        InputError: the port is out of range or taken.
    """
    require("explore --port", port, 1 <= port <= 65535, "in 1..65535")
    own = [f"{host}:{port}" for host in (_ADDRESS, "localhost")]
    application = Application(_Pages(session, crf, source))
    try:
        return Server({"/": application}, port=port, address=_ADDRESS, allow_websocket_origin=own)
    except OSError as error:
        raise InputError(f"explore --port: {port} cannot be used ({error.strerror}); try another") from error


def serve(session: Session, crf: CRFConfig, source: str, *, port: int, browser: bool) -> None:
    """Serve until Ctrl-C.

    Args:
        session: what is shown.
        crf: where the sliders start.
        source: line that says what is shown.
        port: of 127.0.0.1.
        browser: whether to open one.

    Raises:
        InputError: see `make_server`.
    """
    server = make_server(session, crf, source, port)
    server.start()
    _LOG.info("http://%s:%d shows the page; Ctrl-C ends it", _ADDRESS, port)
    if browser:
        server.io_loop.add_callback(server.show, "/")
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()
