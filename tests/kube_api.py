"""The questions that `logs`, `runs` and `--wait` ask Kubernetes, answered over HTTP from pods that a real one described."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml


@contextmanager
def serve_pods(
    pods: list[Any],
    logs: Mapping[str, str],
    status: int = 200,
    asked: list[str] | None = None,
    events: Sequence[Any] = (),
    nodes: Sequence[Any] = (),
    others: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """A server of these pods, their logs and events, of a workflow with these nodes, and of others by their paths; the address.

    With a status it refuses everything.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if asked is not None:
                asked.append(self.path)
            name = address.path.split("/pods")[-1].strip("/")
            if status != 200:
                self._send(json.dumps({"kind": "Status", "code": status, "message": "refused"}), status)
            elif "/pods" not in address.path and address.path.rpartition("/")[0].endswith(("/configmaps", "/cronjobs")):
                found = (others or {}).get(address.path)
                refusal = {"kind": "Status", "code": 404, "reason": "NotFound"}
                self._send(json.dumps(found or refusal), 200 if found else 404)
            elif address.path == "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows":
                workflow = {"status": {"nodes": {str(number): node for number, node in enumerate(nodes)}}}
                self._send(json.dumps({"items": [workflow]}))
            elif address.path.endswith("/events"):
                name = query["fieldSelector"].partition("=")[2]
                found = [event for event in events if event["involvedObject"]["name"] == name]
                self._send(json.dumps({"kind": "EventList", "apiVersion": "v1", "items": found}))
            elif name.endswith("/log"):
                self._send(logs[name.removesuffix("/log")] if query["container"] == "main" else "not ours")
            elif name:
                self._send(json.dumps(next(pod for pod in pods if pod["metadata"]["name"] == name)))
            else:
                key, equals, value = query["labelSelector"].partition("=")
                labels = [(pod, pod["metadata"].get("labels") or {}) for pod in pods]
                found = [pod for pod, those in labels if key in those and (not equals or those[key] == value)]
                self._send(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": found}))

        def _send(self, text: str, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def write_kubeconfig(path: Path, address: str) -> Path:
    """What kubectl would need to reach the server."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
