"""A web server on this machine, as well behaved as a test wants it."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """Its address, what it answers for each path, and what it was asked."""

    address: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # paths with what stands after `?`
    headers: list[dict[str, str]] = field(default_factory=list)

    def publish(self, content: bytes, stem: str = "net") -> str:
        """Offer a file as mmdet does, its name ending in its digest's beginning. Returns the file's address."""
        name = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        self.answers[f"/{name}"] = whole(content)
        return f"{self.address}/{name}"


@contextlib.contextmanager
def running_web_server() -> Iterator[WebServer]:
    """A server that runs as long as the block."""
    told: list[WebServer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            told[0].asked.append(self.path)
            told[0].headers.append(dict(self.headers))
            told[0].answers.get(self.path.partition("?")[0], status(404))(self)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.append(WebServer(f"http://127.0.0.1:{server.server_port}"))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told[0]
    finally:
        server.shutdown()
        server.server_close()


def whole(content: bytes, kind: str = "application/octet-stream") -> Answer:
    """The file."""
    return _sending(content, len(content), kind)


def cut(content: bytes, length: int) -> Answer:
    """An answer that ends before the length that it tells."""
    return _sending(content, length, "application/octet-stream")


def dripping(content: bytes, parts: int, seconds: float) -> Answer:
    """The file in parts, each after a pause."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _begin(request, len(content), "application/octet-stream")
        size = -(-len(content) // parts)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(content), size):
                request.wfile.write(content[start : start + size])
                time.sleep(seconds)

    return answer


def status(code: int, **headers: str) -> Answer:
    """An answer without a file."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One after the other; the last one for ever."""
    waiting = list(answers)
    return lambda request: (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)


def _sending(content: bytes, length: int, kind: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        _begin(request, length, kind)
        with contextlib.suppress(ConnectionError):
            request.wfile.write(content)

    return answer


def _begin(request: BaseHTTPRequestHandler, length: int, kind: str) -> None:
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(length))
    request.end_headers()
