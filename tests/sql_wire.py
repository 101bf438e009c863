"""A bad connection to a MySQL or MariaDB server: it breaks when the server has committed, before its answer arrives."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy

COMMIT = b"\x07\x00\x00\x00\x03COMMIT"
"""The client's packet: length, number, kind, statement."""


class SqlWire:
    """A proxy before the server; `lose` is how many answers to commits are lost, `lost` how many were."""

    def __init__(self, server: str) -> None:
        self.lose, self.lost = 0, 0
        url = sqlalchemy.make_url(server)
        wire, address = self, (url.host, url.port)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                committing = threading.Event()
                with socket.create_connection(address) as upstream, suppress(OSError):
                    threading.Thread(target=self.answer, args=(upstream, committing), daemon=True).start()
                    while data := self.request.recv(1 << 16):
                        if data == COMMIT and wire.lost < wire.lose:
                            committing.set()
                        upstream.sendall(data)

            def answer(self, upstream: socket.socket, committing: threading.Event) -> None:
                with suppress(OSError):
                    while data := upstream.recv(1 << 16):
                        if committing.is_set():
                            wire.lost += 1
                            self.request.shutdown(socket.SHUT_RDWR)
                            return
                        self.request.sendall(data)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._tcp = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._tcp.serve_forever, daemon=True).start()
        port = self._tcp.server_address[1]
        self.url = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    def close(self) -> None:
        """End it."""
        self._tcp.shutdown()
        self._tcp.server_close()


@contextmanager
def sql_wire(server: str) -> Iterator[SqlWire]:
    """A wire to the server while the block lasts."""
    wire = SqlWire(server)
    try:
        yield wire
    finally:
        wire.close()
