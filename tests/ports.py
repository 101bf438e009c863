"""Ports of this machine for tests that need one at which nobody answers."""

import socket
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
