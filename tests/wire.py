"""A bad connection to the storage emulator: everything that a network does to a client, on request."""

import http.client
import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

FOR_EVER = 10**9


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    body: bytes

    @property
    def is_upload(self) -> bool:
        return self.path.startswith(("/upload/", "/resumable/")) and b"/files/md5/" in self.body

    @property
    def is_piece(self) -> bool:
        return self.method == "PUT"

    @property
    def is_download(self) -> bool:
        return "%2Ffiles%2Fmd5%2F" in self.path and "alt=media" in self.path

    @property
    def is_listing(self) -> bool:
        return "/o?" in self.path and "%2Ffiles%2Fmd5" in self.path


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that `on` chooses.

    Attributes:
        kind: an HTTP status; or "hang", "close" (in the middle of the request), "lose" (the answer), "truncate" or
            "flip" (the answer's last byte; with "flip unseen" its checksums too).
    """

    kind: int | str
    on: Callable[[Request], bool]
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    met: int = 0


class Wire:
    """A proxy before the emulator that can do everything a network does to a client."""

    def __init__(self, emulator: str) -> None:
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.released = threading.Event()
        self._lock, self._one_at_a_time = threading.Lock(), threading.Lock()
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                start = self.rfile.read(length // 2)
                # The name of an object stands at the start of its upload.
                fault = wire._next(Request(self.command, self.path, start))
                if fault and fault.kind == "close":
                    return self.connection.close()
                body = start + self.rfile.read(length - len(start))
                if fault and fault.kind == "hang":
                    wire.released.wait()
                    return None
                if fault and isinstance(fault.kind, int):
                    return self.answer(fault.kind, fault.headers, b"{}")
                with wire._one_at_a_time:
                    upstream = http.client.HTTPConnection(emulator.removeprefix("http://"))
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    response = upstream.getresponse()
                    data = response.read()
                if fault and fault.kind == "lose":
                    return self.connection.close()
                headers = dict(response.headers)
                if fault and str(fault.kind).startswith("flip"):
                    data = data[:-1] + bytes([data[-1] ^ 1]) if data else b""
                    if fault.kind == "flip unseen":
                        headers = {name: value for name, value in headers.items() if name.lower() != "x-goog-hash"}
                return self.answer(response.status, headers, data, cut=bool(fault and fault.kind == "truncate"))

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

            def answer(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if cut else data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that gave up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _next(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.met < fault.times and fault.on(request):
                    fault.met += 1
                    return fault
        return None

    def fail(self, kind: int | str, on: Callable[[Request], bool], times: int = FOR_EVER, **headers: str) -> Fault:
        fault = Fault(kind, on, times, {name.replace("_", "-"): value for name, value in headers.items()})
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        self.faults.clear()
        self.released.set()
