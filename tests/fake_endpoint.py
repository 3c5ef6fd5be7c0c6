"""A chat endpoint made of the standard library, for faults: it answers as a script says and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One reply. `hang` is how long nothing is said; `drip` sends one byte at a time with that pause; `cut` lies about
    the length and hangs up."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    drip: float = 0.0
    cut: bool = False


def said(text: object, reason: object = "stop", usage: object = None) -> Reply:
    """Return a usual reply with this text."""
    row: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}]}
    if usage is not None:
        row["usage"] = usage
    return Reply(body=json.dumps(row).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a caller that hung up."""


Script = Callable[[Mapping[str, Any], int], Reply]


@dataclass
class Endpoint:
    """The address, everything it was asked (path, headers, body), and how many were under way at once at most."""

    url: str
    asked: list[tuple[str, Mapping[str, str], Mapping[str, Any]]] = field(default_factory=list)
    at_once: int = 0
    running: int = 0

    def prompts(self) -> list[str]:
        """What it was asked, in order."""
        return [str(body["messages"][-1]["content"]) for _, _, body in self.asked]


@contextmanager
def endpoint(script: Script) -> Iterator[Endpoint]:
    """Serve on a free port of this machine; the script gets the body and how often that prompt came before."""
    lock, stop = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                times = found.prompts().count(body["messages"][-1]["content"])
                found.asked.append((self.path, dict(self.headers), body))
                found.running += 1
                found.at_once = max(found.at_once, found.running)
            reply = script(body, times)
            stop.wait(reply.hang)
            with lock:
                found.running -= 1
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.close_connection = True
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + 10 * reply.cut))
                self.end_headers()
                pieces: Sequence[bytes] = [reply.body]
                if reply.drip:
                    pieces = [reply.body[n : n + 1] for n in range(len(reply.body))]
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if reply.drip:
                        time.sleep(reply.drip)
                    if stop.is_set():
                        break
            except OSError:
                pass  # who asked has gone

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    found = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
