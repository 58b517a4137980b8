"""Serves the demo's page (serving/demo_page.py) with Python's own server: two addresses, answers alone, no log of visits.

Nothing on the page comes from elsewhere and no script runs in it: a policy that is sent with every answer forbids both to the browser,
whatever a text holds.
"""

import contextlib
import socket
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from hcl_tf.serving import demo_page, loopback
from hcl_tf.serving.keyword_edits import EditableRun, Example

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Answers requests on an open socket, each in a thread of its own; a run answers one at a time.

    Args:
      runs: what is compared. examples: texts for the page. listener: the socket (`loopback.listen`), which stays its owner's.
    """

    daemon_threads = True  # Ctrl-C does not wait for an answer

    def __init__(self, runs: Sequence[EditableRun], examples: Sequence[Example], listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.runs, self.examples = runs, examples


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    timeout = 60  # seconds; browsers open connections ahead, and leave them

    def do_GET(self) -> None:
        """Answers the page or its style."""
        address = urlsplit(self.path)
        if address.path == "/":
            asked = demo_page.read(address.query, self.server.examples)
            shown = demo_page.answer(self.server.runs, asked)
            self._send("text/html", demo_page.page(self.server.runs, shown, self.server.examples))
        elif address.path == "/demo.css":
            self._send("text/css", demo_page.STYLE)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "the page is at /")

    def _send(self, kind: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        with contextlib.suppress(ConnectionError):  # a person who clicks on goes without the answer
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def end_headers(self) -> None:
        """Ends the head of every answer, errors too, with `HEADERS`."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_) -> None:
        """Says nothing: texts stand in addresses, and are no business of a log."""


def serve(runs: Sequence[EditableRun], examples: Sequence[Example], listener: socket.socket) -> None:
    """Serves the page until Ctrl-C."""
    server = DemoServer(runs, examples, listener)
    print(f"the page: {loopback.url(listener)} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
