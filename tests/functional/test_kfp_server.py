"""The stand-in for a Kubeflow Pipelines server answers as a recorded one did: the very requests get the very answers."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kfp_nodes import DONE, DRIVER, PENDING, REUSED
from tests.kfp_server import KfpServer, serve

RUN = "717dc8a3-51e4-4280-9828-8761873bf1aa"
STOPPED = "to be stopped"
FAILED_RUN = "0a9ec636-89a2-41fc-af28-045ae8b9f1d2"
LOOKS = [
    None,
    (),
    (("snapshot", DRIVER),),
    (("snapshot", PENDING),),
    (("snapshot", DONE), ("record", DRIVER)),
    (("snapshot", DONE), ("record", REUSED), ("train", DRIVER)),
    (("snapshot", DONE), ("record", REUSED), ("train", REUSED)),
]
"""What had come of the recorded run at each look at it."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NEVER = ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def recording(data_dir: Path) -> Path:
    return data_dir / "kfp_server"


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with serve(KfpServer()) as running:
        yield running


def test_every_recorded_request_gets_the_recorded_answer(server, recording):
    exchanges = json.loads((recording / "exchanges.json").read_text())
    assert len(exchanges) == 39
    server.plan = LOOKS
    server.runs[FAILED_RUN] = exchanges[-1]["response"]["body"]  # it was started before the recording
    ids = {FAILED_RUN: FAILED_RUN}
    for number, exchange in enumerate(exchanges):
        if exchange["request"]["body"] and exchange["request"]["body"].get("display_name") == STOPPED:
            server.plan = LOOKS[1:3]
        status, body = send(server, with_ids(exchange["request"], ids), recording)
        expected = exchange["response"]
        learn_ids(expected["body"], body, ids)
        where = f"{number}: {exchange['doing']}"
        assert status == expected["status"], where
        assert plain(body) == plain(expected["body"]), where


def send(server: KfpServer, request: dict[str, Any], recording: Path) -> tuple[int, Any]:
    """Send a recorded request with an upload's file put back in."""
    body, content_type = request["body"], request["content_type"]
    data = None if body is None else json.dumps(body).encode()
    if content_type.startswith("multipart/"):
        boundary = content_type.partition("boundary=")[2]
        header = "\r\n".join(body["multipart_part_headers"])
        good = 'filename="p.yaml"' in header
        file = (recording / "uploaded.yaml").read_bytes() if good else b"no: pipeline\n"
        data = f"--{boundary}\r\n{header}\r\n\r\n".encode() + file + f"\r\n--{boundary}--\r\n".encode()
        assert not good or len(data) == body["bytes"]
    asked = urllib.request.Request(
        server.url + request["path"], data, {"Content-Type": content_type}, method=request["method"]
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def with_ids(request: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The request with this server's ids in place of the recorded one's."""
    text = UUID.sub(lambda found: ids.get(found[0], found[0]), json.dumps(request))
    return json.loads(text)


def learn_ids(recorded: Any, ours: Any, ids: dict[str, str]) -> None:
    """Which of our ids stands where a recorded one stood; tasks and pods are in no order and never asked for."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for name in (recorded.keys() & ours.keys()) - {"run_details"}:
            learn_ids(recorded[name], ours[name], ids)
    elif isinstance(recorded, list) and isinstance(ours, list):
        for one, other in zip(recorded, ours, strict=False):
            learn_ids(one, other, ids)
    elif isinstance(recorded, str) and UUID.fullmatch(recorded):
        assert ids.setdefault(recorded, ours) == ours


def plain(body: Any) -> Any:
    """The answer without what differs from server to server: ids, times, random names, and the order of tasks."""
    workflows = {
        task["display_name"]
        for run in (body.get("runs") or [body])
        for task in run.get("run_details", {}).get("task_details", ())
        if any(re.fullmatch(re.escape(task["display_name"]) + r"-\d+", pod) for pod in pods_of(run))
    }

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: "PIPELINE"
                if name == "pipeline_spec"
                else sorted(json.dumps(each, sort_keys=True) for each in walk(item))
                if name in ("task_details", "child_tasks")
                else walk(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, str):
            for workflow in workflows:
                value = re.sub(re.escape(workflow) + r"(-\d+)?", lambda found: "POD" if found[1] else "WORKFLOW", value)
            text = UUID.sub("ID", value)
            return text if value in NEVER else TIME.sub("TIME", text)
        return value

    return walk(body)


def pods_of(run: dict[str, Any]) -> list[str]:
    tasks = run.get("run_details", {}).get("task_details", ())
    return [child["pod_name"] for task in tasks for child in task.get("child_tasks", ())]
