"""A Kubernetes API as far as `connect` asks it: objects, and port-forwards over a WebSocket to a pod that answers in capitals."""

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455: what a server adds to a client's key."""
BINARY, CLOSE = 2, 8


@dataclass
class Cluster:
    """What is there.

    Attributes:
        objects: path below the namespace, like `secrets/sightline-database` -> the object.
        pods: what every list of pods gives.
        refuses: paths that are forbidden.
        complaint: what a port-forward says instead of anything else.
        forwards: the ports that were asked for, in order.
    """

    objects: dict[str, Any] = field(default_factory=dict)
    pods: list[Any] = field(default_factory=list)
    refuses: tuple[str, ...] = ()
    complaint: str = ""
    forwards: list[str] = field(default_factory=list)
    url: str = ""


def pod(phase: str = "Running", ports: tuple[tuple[str, int], ...] = (("mysql", 33061),)) -> dict[str, Any]:
    """A pod with named ports."""
    named = [{"name": name, "containerPort": number} for name, number in ports]
    state = {"running": {}} if phase == "Running" else {"waiting": {"reason": "ImagePullBackOff"}}
    status = {
        "name": "main",
        "ready": phase == "Running",
        "state": state,
        "image": "",
        "imageID": "",
        "restartCount": 0,
    }
    return {
        "metadata": {"name": "a-pod"},
        "spec": {"containers": [{"name": "main", "ports": named}]},
        "status": {"phase": phase, "containerStatuses": [status]},
    }


def service(name: str, port: int, target: str | int) -> dict[str, Any]:
    """A service of one port."""
    spec = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]}
    return {"metadata": {"name": name}, "spec": spec}


@contextmanager
def serve_cluster(cluster: Cluster, namespace: str = "kubeflow") -> Iterator[Cluster]:
    """Answer for the cluster; its URL is set."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            path, _, query = self.path.partition("?")
            path = path.removeprefix(f"/api/v1/namespaces/{namespace}/")
            if path.startswith(cluster.refuses) and cluster.refuses:
                self._send(403, {"message": f"{path} is forbidden"})
            elif path.endswith("/portforward"):
                cluster.forwards.append(query.partition("ports=")[2].partition("&")[0])
                self._forward()
            elif path == "pods":
                self._send(200, {"kind": "PodList", "apiVersion": "v1", "items": cluster.pods})
            elif path in cluster.objects:
                self._send(200, cluster.objects[path])
            else:
                self._send(404, {"message": f"{path} not found"})

        def do_POST(self) -> None:  # noqa: N802
            self._send(403, {"message": "nothing may be made here"})

        def _send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _forward(self) -> None:
            digest = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + GUID).encode()).digest()  # noqa: S324
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
            self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
            self.end_headers()
            self.close_connection = True
            number = struct.pack("<H", 1)
            self._frame(BINARY, b"\x00" + number)
            self._frame(BINARY, b"\x01" + number)
            if cluster.complaint:
                self._frame(BINARY, b"\x01" + cluster.complaint.encode())
                self._frame(CLOSE, b"")
                return
            while data := self._read():
                self._frame(BINARY, b"\x00" + data[1:].upper())

        def _frame(self, code: int, data: bytes) -> None:
            length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
            self.wfile.write(bytes([0x80 | code]) + length + data)
            self.wfile.flush()

        def _read(self) -> bytes:
            """The next message's bytes; none at the end."""
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 0x0F == CLOSE:
                return b""
            length = head[1] & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            mask = self.rfile.read(4)
            return bytes(byte ^ mask[place % 4] for place, byte in enumerate(self.rfile.read(length)))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    cluster.url = f"http://127.0.0.1:{listening.server_address[1]}"
    try:
        yield cluster
    finally:
        listening.shutdown()
        listening.server_close()
