"""An endpoint that answers when a test lets it."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Held(ThreadingHTTPServer):
    """Answers POSTs when it is allowed to, and knows how many it has at once."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.all = 0
        self.may_answer = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/push"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Held)
        self.rfile.read(int(self.headers["Content-Length"]))
        with server.lock:
            server.now += 1
            server.all += 1
            server.most = max(server.most, server.now)
        server.may_answer.wait(30)
        time.sleep(0.01)
        with server.lock:
            server.now -= 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
