"""One page on loopback, which is replaced while it is served."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from lightning_modules.reports.errors import ReportError

HOST = "127.0.0.1"
"""Nobody but this machine is answered."""

NAMES = {"127.0.0.1", "localhost"}
"""By which a browser may ask: else a site could have its own name point here and read the page."""


class Page(NamedTuple):
    """What is served."""

    text: str
    version: str
    """Differs between any two pages; the page knows its own."""


class PageServer:
    """Serves `/`, a page, and `/state`, `{"page": version}`, from a thread of its own.

    Args:
        port: Where it listens; 0 takes a free one.
        page: What it serves at first.

    Raises:
        ReportError: The port is taken, or needs rights that this process has not.
    """

    def __init__(self, port: int, page: Page) -> None:
        self.page = page
        try:
            self._server = _Server((HOST, port), _handler(self))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is taken by another program" if error.errno == errno.EADDRINUSE else "is reserved for root"
            raise ReportError(
                f"port {port} {why}: choose another with --port, or any free one with --port 0"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """For a browser."""
        return f"http://{HOST}:{self._server.server_port}/"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser drops connections as it likes; any other error is ours, and is shown.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: PageServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = server.page
            if self.headers.get("Host", "").partition(":")[0] not in NAMES:
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", f"ask for {server.address}\n")
            elif self.path == "/":
                self._answer(HTTPStatus.OK, "text/html", page.text)
            elif self.path == "/state":
                self._answer(HTTPStatus.OK, "application/json", json.dumps({"page": page.version}))
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"there is only {server.address}\n")

        def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            # A browser that reloads or closes the page wants the rest no more.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: an open page asks every second."""

    return Handler
