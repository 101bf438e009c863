"""Ports of this machine for tests that need one at which nobody answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of HOST that refuses connections, and that nobody else on this machine gets meanwhile."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield taken.getsockname()[1]  # bound, and never told to listen


@contextmanager
def silent_port() -> Iterator[int]:
    """A port of HOST that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        yield listening.getsockname()[1]


@contextmanager
def dripping_port(seconds: float) -> Iterator[int]:
    """A port of HOST that begins to answer, and goes on a byte at a time for good."""

    pause = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
            while True:
                connection.sendall(b" ")
                pause.wait(seconds)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listening.accept()[0],), daemon=True).start()

    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
