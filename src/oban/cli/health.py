"""`--health-port`: a small HTTP endpoint for whoever restarts, or routes around, a node."""

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from oban.cli.failures import Failed, WrongUsage
from oban.cli.vitals import STARTING, Vitals

#: What is asked where. Live means that a restart would not help; ready, that it does its work.
READY: Final = frozenset({"/", "/health", "/ready"})
LIVE: Final = "/live"


def parse_address(text: str) -> tuple[str, int]:
    """`8080`, on all interfaces, or `127.0.0.1:8080`."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise WrongUsage(f"--health-port is {text!r}; it is PORT or HOST:PORT, as 8080")
    return host.strip("[]"), int(port)


class Health:
    """The endpoint, open before anything else: a port that is taken keeps a node from starting."""

    def __init__(self, text: str) -> None:
        #: How the node is; whoever knows it better takes over.
        self.look: Callable[[], Vitals] = lambda: STARTING
        port = serve_health(text, lambda: self.look())  # noqa: PLW0108  # it changes
        #: Where it answers: with port 0 the one that was free.
        self.address = f"{text.rpartition(':')[0] or '0.0.0.0'}:{port}"  # noqa: S104  # as it is


def serve_health(text: str, look: Callable[[], Vitals]) -> int:
    """Answer from threads of its own until the process ends; return the port."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # costs where it serves

    class Handler(BaseHTTPRequestHandler):
        server_version = "oban"
        timeout = 5

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path not in READY and path != LIVE:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            vitals = look()
            fine = vitals["live"] if path == LIVE else vitals["status"] != "failing"
            body = json.dumps(vitals, indent=2).encode() + b"\n"
            self.send_response(HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the base class asks for this name

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds: nobody wants to read of them."""

    host, port = parse_address(text)
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise Failed(f"--health-port {text} cannot be opened: {error}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="oban health", daemon=True).start()
    return int(server.server_port)
