"""A port of this machine that leads into the cluster: every connection to it becomes one through the Kubernetes API."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from laptop.volume.cluster import LostError, NoPodError
from sightline.errors import SightlineError

HOST = "127.0.0.1"  # nobody but this machine
CHUNK = 1 << 15
OUTGOING = 0  # the channel of what goes there: a program's standard input, a port's data
PATIENCE_SECONDS = 60.0  # for a pod that is being replaced
PAUSE_SECONDS = 1.0
CLOSED, DATA = 8, (1, 2)  # what a WebSocket's frame may be: its end; text or bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection into the cluster. Every frame's first byte is its channel."""

    connection: Any  # kubernetes' client of a WebSocket; `sock` is that
    incoming: int  # the channel of what comes from there
    numbered: bool  # whether the first frame of each channel is the port's number


@dataclass(frozen=True, slots=True)
class Way:
    """Something inside the cluster, and the port of this machine that leads there; name and where are for a person."""

    name: str
    where: str
    port: int
    open: Callable[[], Wire]  # raises LostError or NoPodError where trying again may help
    settings: Mapping[str, str]  # those that use it


class Relay:
    """Serves a way's port. Nothing has to be restarted: each connection looks for its pod again."""

    def __init__(self, way: Way) -> None:
        """Take the port, or raise a SightlineError when it is taken."""
        self._way, self._said, self._closed = way, "", False
        try:
            self._listening = socket.create_server((HOST, way.port))
        except OSError as error:
            raise SightlineError(
                f"The port {HOST}:{way.port} for the {way.name} cannot be taken ({os.strerror(error.errno or 0)}): another program, or another "
                "connect, may have it. Choose others with --first-port."
            ) from None

    def start(self) -> None:
        """Serve in the background, until the process ends."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Give the port back. Connections go on, and nobody is told of them any more."""
        self._closed = True
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(local,), daemon=True).start()

    def _serve(self, local: socket.socket) -> None:
        with local:
            try:
                wire = self._open_patiently()
            except SightlineError as error:
                self._say(str(error))
                return
            try:
                complaint = pump(local, wire)
            finally:
                wire.connection.close(timeout=1)
        if complaint:
            self._say(complaint)
        elif self._said:
            self._say("reached again")
            self._said = ""

    def _open_patiently(self) -> Wire:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._way.open()
            except (LostError, NoPodError) as error:
                if time.monotonic() > until:
                    raise
                self._say(f"{error} Trying again.")
                time.sleep(PAUSE_SECONDS)

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            if not self._closed:
                print(f"{self._way.name}: {sentence}", flush=True)


def pump(local: socket.socket, wire: Wire) -> str:
    """Carry bytes both ways until a side ends. Returns what the other side complained of, if it said nothing else."""
    from websocket import WebSocketException

    far = wire.connection.sock
    # TLS may have bytes already that the network does not announce any more.
    held_back = getattr(far.sock, "pending", lambda: 0)
    heard, complaints, begun = False, b"", set()
    try:
        while True:
            ready = [far.sock] if held_back() else select.select([local, far.sock], [], [])[0]
            if far.sock in ready:
                code, frame = far.recv_data_frame(True)
                if code == CLOSED:
                    break
                if code not in DATA or not frame.data:
                    continue
                channel, data = frame.data[0], frame.data[1:]
                if wire.numbered and channel not in begun:
                    begun.add(channel)
                elif channel == wire.incoming:
                    heard = True
                    local.sendall(data)
                else:
                    complaints += data
            if local in ready:
                data = local.recv(CHUNK)
                if not data:
                    return ""
                far.send_binary(bytes([OUTGOING]) + data)
    except (WebSocketException, OSError) as error:
        complaints = complaints or str(error).encode()
    return "" if heard else " ".join(complaints.decode(errors="replace").split())[:300]
